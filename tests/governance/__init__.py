"""Tests of autonomy, approvals, audit, rollback and feedback."""

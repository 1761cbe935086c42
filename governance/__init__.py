"""Who may decide what: autonomy, approvals, audit, rollback, feedback."""

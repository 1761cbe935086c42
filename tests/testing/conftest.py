"""Clients that have nothing to do with the environment of whoever runs the tests."""

from tests.support_tests.conftest import api_models, dummy_aws, make_client, make_model, make_service

__all__ = ["api_models", "dummy_aws", "make_client", "make_model", "make_service"]

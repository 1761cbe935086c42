"""What a run tells CloudWatch, beside its work and never in its way."""

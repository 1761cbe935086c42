"""What the cloud store is made of: places, calls, and the record in one region."""

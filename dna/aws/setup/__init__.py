"""How the bucket, the table and the keys of a cloud store have to be, and what makes them so."""

"""Pictures of the admin's history pages for the docs."""

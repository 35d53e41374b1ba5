"""The pages: each a function of the admin, the request and what its address says. GET shows; only a confirmed POST writes."""

"""The driver's collections and servers, seen as what history needs of them: whole documents as bytes, and abilities."""

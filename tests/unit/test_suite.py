"""Laws that the tests themselves obey."""

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent.parent


def _document_classes(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Document") for base in node.bases)
    ]


def test_no_two_modules_define_documents_of_one_name() -> None:
    """MongoEngine knows classes by name: of two, one would keep a closed connection after the other's test."""
    names = Counter(name for path in TESTS.rglob("*.py") for name in _document_classes(path))
    assert [name for name, count in names.items() if count > 1] == []

"""
Django signals of this package.

`document_reverted`: a revert or a take-back has written one document. `sender` is its class; `document_id` its `_id`;
`version_id` the id of the new version; `operation` what was done (`create`, `update`, `delete`).
"""

from __future__ import annotations

from django.dispatch import Signal

document_reverted = Signal()

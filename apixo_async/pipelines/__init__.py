"""Rows of tables bought by engines that rerun them: Ray Data, Daft, and what calls for each row."""

from apixo_async.pipelines.rows import RowBuyer

__all__ = ["RowBuyer"]

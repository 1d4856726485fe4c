"""Tables, their columns and their rows: ``client.tables``."""

from .catalog import RawTables, Tables
from .columns import Columns, RawColumns
from .data import RawTableData, TableData
from .query import RowIterator, TableDataQueryBuilder

__all__ = [
    "Columns",
    "RawColumns",
    "RawTableData",
    "RawTables",
    "RowIterator",
    "TableData",
    "TableDataQueryBuilder",
    "Tables",
]

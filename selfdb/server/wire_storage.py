"""What goes over the wire about buckets and files: request and response models, and the rules of single
fields.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any, Dict, List, Optional

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from .mime import is_pattern
from .wire import RequestModel, Timestamp

__all__ = [
    "BucketCreate",
    "BucketRead",
    "BucketSort",
    "BucketUpdate",
    "FileMetadata",
    "FilePage",
    "FileRead",
    "FileSort",
    "StorageStats",
    "UploadReply",
    "is_bucket_name",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_ADDRESS = re.compile(r"\d+(?:\.\d+){3}\Z")
_NAME_SCHEMA = {"pattern": r"^(?!.*\.\.)(?!\d+(\.\d+){3}$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"}
_MIME_SCHEMA = {"pattern": r"^[A-Za-z0-9!#$%&'+.^_`|~-]+/(\*|[A-Za-z0-9!#$%&'+.^_`|~-]+)$"}


def is_bucket_name(name: str) -> bool:
    """Whether a bucket may bear this name."""
    return _NAME.match(name) is not None and ".." not in name and _ADDRESS.match(name) is None


def _bucket_name(name: str) -> str:
    if not is_bucket_name(name):
        raise ValueError(
            "must be 3 to 63 of a-z, 0-9, '.' and '-', begin and end with a letter or digit, "
            "hold no '..' and not look like an IP address"
        )
    return name


def _mime_pattern(text: str) -> str:
    if not is_pattern(text):
        raise ValueError("must look like 'type/subtype' or 'type/*'")
    return text


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


BucketName = Annotated[
    StrictStr, Field(min_length=3, max_length=63, json_schema_extra=_NAME_SCHEMA), AfterValidator(_bucket_name)
]
Description = Annotated[StrictStr, Field(max_length=500)]
#: No larger than what every reader of JSON holds exactly.
SizeLimit = Annotated[StrictInt, Field(ge=1, le=2**53 - 1), BeforeValidator(_whole)]
MimePattern = Annotated[StrictStr, Field(max_length=255, json_schema_extra=_MIME_SCHEMA), AfterValidator(_mime_pattern)]
MimePatterns = Annotated[List[MimePattern], Field(max_length=100)]


class BucketSort(str, Enum):
    """Keys that a list of buckets can be sorted by."""

    name = "name"
    created_at = "created_at"
    updated_at = "updated_at"
    file_count = "file_count"
    total_size = "total_size"


class FileSort(str, Enum):
    """Keys that a list of files can be sorted by."""

    name = "name"
    path = "path"
    size = "size"
    mime_type = "mime_type"
    created_at = "created_at"
    updated_at = "updated_at"


class BucketCreate(RequestModel):
    """A new bucket."""

    name: BucketName
    public: StrictBool = False
    description: Optional[Description] = None
    file_size_limit: Optional[SizeLimit] = None
    allowed_mime_types: Optional[MimePatterns] = None


class BucketUpdate(RequestModel):
    """What to change; what is absent stays. ``null`` clears a field that may be empty."""

    # Absent or a value, never null.
    name: BucketName = Field(default="", validate_default=False)
    public: StrictBool = False
    description: Optional[Description] = None
    file_size_limit: Optional[SizeLimit] = None
    allowed_mime_types: Optional[MimePatterns] = None


class FileMetadata(RequestModel):
    """Replaces everything that was noted about a file."""

    metadata: Optional[Dict[str, Any]]


class BucketRead(BaseModel):
    """A bucket; ``total_size`` and ``file_size_limit`` in bytes."""

    id: str
    name: str
    public: bool
    owner_id: str
    description: Optional[str]
    file_size_limit: Optional[int]
    allowed_mime_types: Optional[List[str]]
    file_count: int
    total_size: int
    created_at: Timestamp
    updated_at: Timestamp


class FileRead(BaseModel):
    """A stored file; ``path`` is its key with a leading slash, ``size`` in bytes."""

    id: str
    name: str
    bucket_id: str
    bucket_name: str
    path: str
    size: int
    mime_type: str
    owner_id: Optional[str]
    metadata: Optional[Dict[str, Any]]
    created_at: Timestamp
    updated_at: Timestamp


class FilePage(BaseModel):
    """One page of files; ``total`` counts all that match."""

    data: List[FileRead]
    total: int
    page: int
    page_size: int


class StorageStats(BaseModel):
    """Sums over the buckets that the caller sees; ``total_size`` in bytes."""

    total_files: int
    total_size: int
    total_buckets: int
    # The same number under the name that other clients read.
    buckets_count: int


class UploadReply(BaseModel):
    """What became of an upload; ``bucket`` is the bucket's name."""

    success: bool
    bucket: str
    path: str
    size: int
    file_id: str

"""Buckets and files."""

from __future__ import annotations

from typing import Annotated, Any, Dict, List, Optional

from pydantic import BeforeValidator, Field

from .base import CreateModel, DeleteResponse, RequestModel, ResponseModel, Timestamp, either

__all__ = [
    "BucketCreate",
    "BucketDeleteResponse",
    "BucketResponse",
    "BucketUpdate",
    "FileDataResponse",
    "FileDeleteResponse",
    "FileResponse",
    "FileUploadResponse",
    "StorageStatsResponse",
]


class BucketCreate(CreateModel):
    """A new bucket. ``file_size_limit`` is in bytes."""

    name: str
    public: bool = False
    description: Optional[str] = None
    file_size_limit: Optional[int] = None
    allowed_mime_types: Optional[List[str]] = None


class BucketUpdate(RequestModel):
    """Changes to a bucket; what is not set stays, an explicit ``None`` lifts a limit."""

    name: Optional[str] = None
    public: Optional[bool] = None
    description: Optional[str] = None
    file_size_limit: Optional[int] = None
    allowed_mime_types: Optional[List[str]] = None


def _texts(value: Any) -> Any:
    # One finding for all, where pydantic would have one an item: of millions, each larger than the item.
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ValueError("not a list of texts")
    return value


class BucketResponse(ResponseModel):
    """A bucket as the server shows it. ``total_size`` is in bytes."""

    id: str
    name: str
    public: bool = False
    owner_id: Optional[str] = None
    description: Optional[str] = None
    file_size_limit: Optional[int] = None
    allowed_mime_types: Annotated[Optional[List[str]], BeforeValidator(_texts)] = None
    file_count: int = 0
    total_size: int = 0
    created_at: Optional[Timestamp] = None
    updated_at: Optional[Timestamp] = None


class FileResponse(ResponseModel):
    """A stored file. ``size`` is in bytes, ``path`` starts with a slash."""

    id: str
    name: str
    bucket_id: Optional[str] = None
    bucket_name: Optional[str] = None
    path: Optional[str] = None
    size: int = 0
    mime_type: Optional[str] = None
    owner_id: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None
    created_at: Optional[Timestamp] = None
    updated_at: Optional[Timestamp] = None


class FileUploadResponse(ResponseModel):
    """What an upload made: the bucket's name, the path in it, bytes stored, and the id of the file."""

    success: bool
    bucket: str
    path: str
    size: int
    file_id: str
    upload_time: Optional[float] = None
    url: Optional[str] = None
    original_path: Optional[str] = None
    message: Optional[str] = None


class FileDataResponse(ResponseModel):
    """One page of files."""

    data: List[FileResponse]
    total: int
    page: int = 1
    page_size: int = Field(default=100, validation_alias=either("page_size", "pageSize"))


class StorageStatsResponse(ResponseModel):
    """Sums over the buckets that the caller may see. ``total_size`` is in bytes."""

    total_files: int = 0
    total_size: int = 0
    total_buckets: int = Field(default=0, validation_alias=either("total_buckets", "buckets_count"))


class BucketDeleteResponse(DeleteResponse):
    """What was deleted, a bucket."""

    @property
    def bucket_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id


class FileDeleteResponse(DeleteResponse):
    """What was deleted, a file."""

    @property
    def file_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id

"""Tests of the house itself: arrows, static checks, packaging, file sizes."""

"""What all tables belong to, and what more than one says."""

from sqlalchemy import MetaData, text

metadata = MetaData()

OPEN = text("ended_at IS NULL")

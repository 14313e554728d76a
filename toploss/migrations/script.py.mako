"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
# The oldest code that may use a database of this revision; `toploss.fit` goes by it.
min_compatible = "0015"


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}

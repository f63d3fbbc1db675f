"""How the tables became what they are. Alembic's; never change a version that was released, add another."""

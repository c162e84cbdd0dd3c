"""State in SQL: tables, the store, migrations. SQLAlchemy lives here and nowhere else."""

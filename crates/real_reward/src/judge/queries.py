"""Notes on standard error every query that a program hands to SQLite, before it is compiled: an attack may well spoil its syntax."""

import json, os, sqlite3, sqlite3.dbapi2


def record():
    notes = os.dup(2)

    def note(query):
        if isinstance(query, str):
            os.write(notes, b"\x1e" + json.dumps(query).encode() + b"\n")

    class Cursor(sqlite3.Cursor):
        def execute(self, sql, *parameters):
            note(sql)
            return super().execute(sql, *parameters)

        def executemany(self, sql, *parameters):
            note(sql)
            return super().executemany(sql, *parameters)

        def executescript(self, sql):
            note(sql)
            return super().executescript(sql)

    class Connection(sqlite3.Connection):
        def cursor(self, factory=Cursor):
            return super().cursor(factory)

        def execute(self, sql, *parameters):
            return self.cursor().execute(sql, *parameters)

        def executemany(self, sql, *parameters):
            return self.cursor().executemany(sql, *parameters)

        def executescript(self, sql):
            return self.cursor().executescript(sql)

    open_database = sqlite3.connect

    def connect(*arguments, **options):
        options.setdefault("factory", Connection)
        return open_database(*arguments, **options)

    sqlite3.connect = sqlite3.dbapi2.connect = connect

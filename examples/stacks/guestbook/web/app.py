"""A guestbook: entries in PostgreSQL, a count of visits in Redis."""

import html
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import psycopg2
import redis

with open(os.environ["DATABASE_PASSWORD_FILE"], encoding="utf-8") as file:
    PASSWORD = file.read().strip()
CACHE = redis.Redis(host=os.environ["CACHE_HOST"])

PAGE = """<!doctype html>
<title>Guestbook</title>
<h1>Guestbook</h1>
<p>Visits since the cache started: {visits}</p>
<form method="post"><input name="entry" required maxlength="200"><button>Sign</button></form>
<ul>
{entries}
</ul>
"""


def query(statement, *values):
    """Runs one statement in a transaction of its own and returns its rows."""
    connection = psycopg2.connect(
        host=os.environ["DATABASE_HOST"], user="guestbook", dbname="guestbook", password=PASSWORD
    )
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


class Guestbook(BaseHTTPRequestHandler):
    """Serves the page, takes entries."""

    def do_GET(self):
        if self.path == "/healthy":
            return self.answer(200, "ok\n")
        rows = query("SELECT text FROM entry ORDER BY id DESC LIMIT 100")
        entries = "\n".join(f"<li>{html.escape(text)}</li>" for (text,) in rows)
        return self.answer(200, PAGE.format(visits=CACHE.incr("visits"), entries=entries))

    def do_POST(self):
        length = min(int(self.headers.get("Content-Length", 0)), 4096)
        entry = parse_qs(self.rfile.read(length).decode()).get("entry", [""])[0].strip()
        if not entry:
            return self.answer(400, "an entry must not be empty\n")
        query("INSERT INTO entry (text) VALUES (%s)", entry[:200])
        self.send_response(303)
        self.send_header("Location", "/")
        return self.end_headers()

    def answer(self, status, text):
        """Sends one page."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    query("CREATE TABLE IF NOT EXISTS entry (id serial PRIMARY KEY, text text NOT NULL)")
    ThreadingHTTPServer(("", 8000), Guestbook).serve_forever()

-- What the tests of the wing ask PostgREST about. reset() puts it back as it was.

DO $$ BEGIN
    CREATE ROLE web_anon NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; -- roles are the whole cluster's, and another database has made it
END $$;

CREATE TABLE users (
    id serial PRIMARY KEY,
    name text NOT NULL,
    email text UNIQUE,
    role text,
    age int,
    active bool,
    born date,
    ts timestamptz,
    deleted_at timestamptz,
    meta jsonb,
    tags text[] DEFAULT '{}',
    span int4range,
    balance numeric(12, 2) DEFAULT 100,
    "limit" int,
    "a.b" int,
    "full name" text
);

CREATE TABLE posts (
    id serial PRIMARY KEY,
    title text NOT NULL,
    views int NOT NULL DEFAULT 0,
    author_id int REFERENCES users (id)
);

CREATE TABLE comments (
    id serial PRIMARY KEY,
    post_id int NOT NULL REFERENCES posts (id),
    text text NOT NULL,
    "limit" int
);

-- For any text.
CREATE TABLE notes (id serial PRIMARY KEY, text text NOT NULL, tags text[] NOT NULL DEFAULT '{}');

-- For names.
CREATE TABLE odd (id serial PRIMARY KEY, "a,b" int, "c.d" int, "e""f" int, "g\h" int, "(i)" int, "k:l" int, "m n" int,
    "ü" int, "o-p" int, "1q" int, "select" int, "r->s" int, "limit" int, "T" int, "*" int, other int);

-- For walking: more rows than any page has.
CREATE TABLE numbers (id int PRIMARY KEY, label text NOT NULL, exact numeric NOT NULL);
INSERT INTO numbers SELECT n, 'number ' || n, n + 0.12345678901234567890 FROM generate_series(1, 2500) n;
CREATE TABLE decimals (value numeric PRIMARY KEY);
INSERT INTO decimals SELECT 1 + n / 10000000000000000000000.0 FROM generate_series(0, 9) n;
CREATE TABLE nullable (id int, label text);
INSERT INTO nullable VALUES (1, 'a'), (2, 'b'), (NULL, 'c');
CREATE TABLE growing (id int PRIMARY KEY);
CREATE TABLE many (id int PRIMARY KEY, label text NOT NULL);

-- For those who may not.
CREATE TABLE secrets (id int PRIMARY KEY);

CREATE SCHEMA api2;
CREATE TABLE api2.things (id serial PRIMARY KEY, name text NOT NULL);

CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION no_number() RETURNS int LANGUAGE sql AS 'SELECT NULL::int';
CREATE FUNCTION admins() RETURNS SETOF users LANGUAGE sql STABLE AS $$SELECT * FROM users WHERE role = 'admin' ORDER BY id$$;
CREATE FUNCTION api2.greet(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'hello ' || name$$;

CREATE FUNCTION reset() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE users, posts, comments, notes, odd, growing, api2.things RESTART IDENTITY;
    INSERT INTO users (name, email, role, age, active, born, ts, deleted_at, meta, tags, span, "limit", "a.b", "full name")
    VALUES
        ('Alice', 'alice@example.com', 'admin', 30, true, '1990-01-02', '2024-01-01T00:00:00Z', NULL,
            '{"k": "v", "n": {"m": "deep"}, "level": 3}', '{red,green}', '[1,10)', 1, 1, 'Alice A.'),
        ('albert', 'albert@example.com', 'user', 17, false, '2007-05-05', '2024-02-01T00:00:00Z', '2024-03-01T00:00:00Z',
            '{"k": "w"}', '{green}', '[20,30)', 2, 2, 'Albert B.'),
        ('Bob, Jr.', 'bob@example.com', 'user', 65, NULL, '1959-03-04', '2024-03-01T00:00:00Z', NULL, NULL,
            '{"a,b"}', NULL, 5, NULL, NULL),
        ('(paren)', 'paren@example.com', 'guest', 18, true, '2006-01-01', '2024-04-01T00:00:00Z', NULL, '{}', '{}',
            NULL, NULL, NULL, NULL),
        ('Say "hi"', 'hi@example.com', NULL, 40, true, '1984-01-01', '2024-05-01T12:00:00Z', NULL, NULL, '{"say \"hi\""}',
            NULL, NULL, NULL, NULL),
        ('back\slash', 'back@example.com', NULL, NULL, NULL, NULL, NULL, '2024-01-01T00:00:00Z', NULL, NULL,
            NULL, NULL, NULL, NULL),
        ('a&b=c+d #é', 'amp@example.com', 'admin', 66, false, '1958-12-31', '2023-12-31T23:00:00Z', NULL, '{"k": "v"}',
            '{red}', NULL, NULL, NULL, NULL),
        ('50% off', 'half@example.com', 'guest', 51, true, '1973-01-01', '2024-06-01T00:00:00Z', NULL, NULL, '{red,blue}',
            NULL, NULL, NULL, NULL);
    INSERT INTO posts (title, views, author_id) VALUES ('first', 10, 1), ('second', 30, 1), ('third', 20, 2), ('orphan', 5, NULL);
    INSERT INTO comments (post_id, text, "limit") VALUES (1, 'one', 1), (1, 'two', 2), (2, 'three', 3);
    INSERT INTO api2.things (name) VALUES ('thing');
END $$;

SELECT reset();

GRANT USAGE ON SCHEMA public, api2 TO web_anon;
GRANT ALL ON ALL TABLES IN SCHEMA public, api2 TO web_anon;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public, api2 TO web_anon;
REVOKE ALL ON secrets FROM web_anon;

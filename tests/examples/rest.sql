-- What the examples on PostgREST read.

CREATE TABLE readings (id int PRIMARY KEY, station text NOT NULL, at timestamptz NOT NULL, celsius numeric(4, 1));
INSERT INTO readings
    SELECT
        n,
        (ARRAY['Évora', 'Faro', 'Porto'])[1 + n * 7 % 3],
        '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 minute',
        CASE WHEN n % 11 > 0 THEN (n * 37 % 401 - 100) / 10.0 END
    FROM generate_series(1, 10000) n;

CREATE TABLE plan (field text NOT NULL, valve int NOT NULL, opens time NOT NULL, minutes int NOT NULL);

DO $$ BEGIN
    CREATE ROLE web_reader NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; -- roles are the whole cluster's
END $$;
GRANT SELECT ON readings, plan TO web_reader;

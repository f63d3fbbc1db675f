-- A ledger as AutoScorer 0.1 kept it: four tasks, one in each state that matters.
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE counts (state TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "counts" VALUES('completed',1);
INSERT INTO "counts" VALUES('failed',1);
INSERT INTO "counts" VALUES('queued',1);
INSERT INTO "counts" VALUES('running',1);
CREATE TABLE idempotency (
        caller TEXT NOT NULL,
        key TEXT NOT NULL,
        request_hash TEXT NOT NULL,
        task_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (caller, key)
    ) WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('admin-1','k1','h1','01a1ee56-5e00-7f53-a050-c8a321c4d4d3',1795000000.0);
INSERT INTO "idempotency" VALUES('admin-1','k2','h2','01a1ee56-65d0-7a1f-baab-6828f89d907c',1795000002.0);
CREATE TABLE names (
        task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        names TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "names" VALUES('01a1ee56-5e00-7f53-a050-c8a321c4d4d3','ended
job-7
job-7');
INSERT INTO "names" VALUES('01a1ee56-61e8-7f17-bcc3-6207eebe3c82','failed');
INSERT INTO "names" VALUES('01a1ee56-65d0-7a1f-baab-6828f89d907c','running');
INSERT INTO "names" VALUES('01a1ee56-69b8-76b8-9094-26f769c3b9ea','queued');
CREATE TABLE outcomes (
        task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        result TEXT,
        error TEXT
    , outcome TEXT);
INSERT INTO "outcomes" VALUES('01a1ee56-5e00-7f53-a050-c8a321c4d4d3','{"summary": {"score": 0.75, "accuracy": 0.75, "pass": true, "rank": "B"}, "job_id": "Job-7"}',NULL,'{"score": 0.75, "metric": "accuracy", "higher_is_better": true, "interval": null, "pass": true, "rank": "B"}');
INSERT INTO "outcomes" VALUES('01a1ee56-61e8-7f17-bcc3-6207eebe3c82',NULL,'{"code": "MISSING_FILE", "message": "m", "stage": "validation", "details": {}}',NULL);
CREATE TABLE tasks (
        id TEXT PRIMARY KEY,
        origin TEXT NOT NULL,
        caller TEXT NOT NULL,
        action TEXT NOT NULL,
        -- What no two active tasks of one action may have in common.
        subject TEXT NOT NULL,
        workspace TEXT,
        scorer TEXT,
        priority TEXT NOT NULL,
        request TEXT NOT NULL,
        parameters TEXT NOT NULL,
        retry_of TEXT,
        state TEXT NOT NULL,
        reason TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        flow_run_id TEXT,
        prefect_state TEXT,
        -- Flow runs that were made of it, and the attempts at those that Prefect lost.
        dispatch INTEGER NOT NULL DEFAULT 1,
        earlier_attempts INTEGER NOT NULL DEFAULT 0,
        -- Prefect may have been told of it, even if it never answered.
        dispatching INTEGER NOT NULL DEFAULT 0,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        callback_url TEXT,
        callback_state TEXT,
        callback_attempts INTEGER NOT NULL DEFAULT 0,
        callback_error TEXT,
        callback_at REAL,
        callback_delivered_at REAL
    , role TEXT NOT NULL DEFAULT 'submit');
INSERT INTO "tasks" VALUES('01a1ee56-5e00-7f53-a050-c8a321c4d4d3','api','admin-1','score','/srv/ended','/srv/ended',NULL,'normal','{"action": "score", "workspace": "ended"}','{"workspace": "/srv/ended"}',NULL,'completed',NULL,1,1795000000.0,1795000004.0,1795000006.0,'00000000-0000-0000-0000-000000000001','SCHEDULED',1,0,0,0,'http://example.org/','pending',0,NULL,1.79594399922676301005e+09,NULL,'admin');
INSERT INTO "tasks" VALUES('01a1ee56-61e8-7f17-bcc3-6207eebe3c82','api','admin-1','score','/srv/failed','/srv/failed',NULL,'normal','{"action": "score", "workspace": "failed"}','{"workspace": "/srv/failed"}',NULL,'failed',NULL,0,1795000001.0,NULL,1795000007.0,'00000000-0000-0000-0000-000000000002','SCHEDULED',1,0,0,0,NULL,NULL,0,NULL,1.79594399922710537911e+09,NULL,'submit');
INSERT INTO "tasks" VALUES('01a1ee56-65d0-7a1f-baab-6828f89d907c','api','admin-1','score','/srv/running','/srv/running',NULL,'normal','{"action": "score", "workspace": "running"}','{"workspace": "/srv/running"}',NULL,'running','again',2,1795000002.0,1795000005.0,NULL,'00000000-0000-0000-0000-000000000003','RUNNING',1,0,0,0,NULL,NULL,0,NULL,NULL,NULL,'submit');
INSERT INTO "tasks" VALUES('01a1ee56-69b8-76b8-9094-26f769c3b9ea','api','admin-1','score','/srv/queued','/srv/queued',NULL,'high','{"action": "score", "workspace": "queued"}','{"workspace": "/srv/queued"}',NULL,'queued',NULL,0,1795000003.0,NULL,NULL,NULL,NULL,1,0,0,0,NULL,NULL,0,NULL,NULL,NULL,'submit');
CREATE UNIQUE INDEX one_active ON tasks (action, subject)
        WHERE origin = 'api' AND state IN ('queued', 'running', 'cancelling');
CREATE UNIQUE INDEX by_flow_run ON tasks (flow_run_id) WHERE flow_run_id IS NOT NULL;
CREATE INDEX undispatched ON tasks (priority, id)
        WHERE flow_run_id IS NULL AND state IN ('queued', 'cancelling');
CREATE INDEX by_state ON tasks (state, id);
CREATE INDEX by_workspace ON tasks (workspace, id);
CREATE INDEX by_scorer ON tasks (scorer, id);
CREATE INDEX by_end ON tasks (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX callbacks_due ON tasks (callback_at) WHERE callback_state = 'pending';
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE TRIGGER count_new AFTER INSERT ON tasks BEGIN
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET number = number + 1;
    END;
CREATE TRIGGER count_change AFTER UPDATE OF state ON tasks WHEN new.state <> old.state BEGIN
        UPDATE counts SET number = number - 1 WHERE state = old.state;
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET number = number + 1;
    END;
CREATE TRIGGER count_gone AFTER DELETE ON tasks BEGIN
        UPDATE counts SET number = number - 1 WHERE state = old.state;
    END;
COMMIT;

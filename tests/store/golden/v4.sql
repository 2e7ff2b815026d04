BEGIN TRANSACTION;
CREATE TABLE api_keys (
	id VARCHAR NOT NULL, 
	salt BLOB NOT NULL, 
	hash BLOB NOT NULL, 
	name TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	scopes TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	expires_at DOUBLE, 
	revoked_at DOUBLE, 
	last_used_at DOUBLE, 
	PRIMARY KEY (id)
);
CREATE TABLE env_keys (
	id VARCHAR NOT NULL, 
	owner TEXT NOT NULL, 
	name TEXT NOT NULL, 
	ciphertext TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (owner, name)
);
CREATE TABLE events (
	run_id VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (run_id, seq)
);
INSERT INTO "events" VALUES('run-1',1,'trial','{"n":1}',3.0);
INSERT INTO "events" VALUES('run-1',2,'trial','{"n":2}',3.0);
CREATE TABLE generations (
	id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	phase VARCHAR NOT NULL, 
	model TEXT NOT NULL, 
	request TEXT, 
	response TEXT NOT NULL, 
	prompt_tokens INTEGER NOT NULL, 
	completion_tokens INTEGER NOT NULL, 
	cached_tokens INTEGER NOT NULL, 
	cost_micros INTEGER NOT NULL, 
	latency_s DOUBLE NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "generations" VALUES(1,'g','run-1','task','openai/gpt-4.1-nano',NULL,'{"text":"yes"}',10,2,4,7,0.25,2.0);
INSERT INTO "generations" VALUES(2,'h','run-1','judge','openai/gpt-4.1-nano','{"messages":["hi"]}','{"text":"yes"}',10,2,4,7,0.25,2.0);
CREATE TABLE jobs (
	id VARCHAR NOT NULL, 
	owner TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	status TEXT NOT NULL, 
	config TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	error TEXT, 
	summary TEXT, 
	result TEXT, webhook_due DOUBLE, 
	PRIMARY KEY (id)
);
CREATE TABLE programs (
	digest VARCHAR NOT NULL, 
	modules TEXT NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO "programs" VALUES('p1','{"main":{"system":"Be brief."}}');
CREATE TABLE rollouts (
	id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	program VARCHAR NOT NULL, 
	sample_id TEXT NOT NULL, 
	repeat INTEGER NOT NULL, 
	score DOUBLE, 
	output TEXT NOT NULL, 
	failure TEXT, 
	prompt_tokens INTEGER NOT NULL, 
	completion_tokens INTEGER NOT NULL, 
	cached_tokens INTEGER NOT NULL, 
	cost_micros INTEGER NOT NULL, 
	latency_s DOUBLE NOT NULL, 
	data TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, sample VARCHAR DEFAULT '' NOT NULL, phase VARCHAR DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "rollouts" VALUES(1,'a','run-1','p1','s1',0,0.5,'yes',NULL,10,2,4,7,0.25,'{"metrics":{"exact":0.5}}',2.0,'x','');
INSERT INTO "rollouts" VALUES(2,'b','run-1','p1','s1',0,NULL,'','{"kind":"CallTimeout","message":"no answer"}',10,2,4,7,0.25,'{"metrics":{"exact":0.5}}',2.0,'x','');
INSERT INTO "rollouts" VALUES(3,'c','run-1','p1','s1',0,0.5,'naïve 😀',NULL,10,2,4,7,0.25,'{"metrics":{"exact":0.5}}',2.0,'x','');
CREATE TABLE rollouts_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT rollouts_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "rollouts_version" VALUES('0004');
CREATE TABLE run_rollouts (
	id INTEGER NOT NULL, 
	run_id VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, phase VARCHAR DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (run_id, "key")
);
INSERT INTO "run_rollouts" VALUES(1,'run-2','c','test');
CREATE TABLE runs (
	id VARCHAR NOT NULL, 
	method TEXT NOT NULL, 
	status TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	config TEXT NOT NULL, 
	name TEXT NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	elapsed_s DOUBLE NOT NULL, 
	authorised TEXT NOT NULL, 
	summary TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('run-1','mipro','stopped',1.0,'{"a":1}','é',0.0,0.0,'{"micros":100}','{"best":"p1"}');
INSERT INTO "runs" VALUES('run-2','mipro','running',2.0,'{"a":1}','',0.0,0.0,'{}','{}');
CREATE TABLE samples (
	digest VARCHAR NOT NULL, 
	inputs TEXT NOT NULL, 
	ground_truth TEXT, 
	PRIMARY KEY (digest)
);
INSERT INTO "samples" VALUES('x','{"text":"naïve 😀"}','["yes",1]');
CREATE INDEX ix_runs_created ON runs (created_at, id);
CREATE INDEX ix_rollouts_run ON rollouts (run_id, id);
CREATE INDEX ix_rollouts_failed ON rollouts (run_id, id) WHERE failure IS NOT NULL;
CREATE INDEX ix_generations_run ON generations (run_id, id);
CREATE INDEX ix_run_rollouts_run ON run_rollouts (run_id, id);
CREATE INDEX ix_jobs_owner ON jobs (owner, created_at, id);
CREATE INDEX ix_jobs_finished ON jobs (finished_at);
CREATE INDEX ix_jobs_webhook ON jobs (webhook_due);
COMMIT;

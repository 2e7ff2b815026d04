"""What a user of synth-ai 0.7 writes, run with that SDK's own interpreter: BACKEND APP_URL CONFIGS_JSON.

Prints one JSON object of what the SDK saw. Imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request

from synth_ai.sdk.optimization import PolicyOptimizationJob
from synth_ai.sdk.optimization.policy import MiproOnlineSession


def demo_key(backend: str) -> str:
    request = urllib.request.Request(
        f"{backend}/api/demo/keys", data=b'{"ttl_hours": 4}', headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return str(json.load(response)["api_key"])


def main(backend: str, configs: dict) -> dict:
    key = demo_key(backend)

    def new_job(algorithm: str) -> PolicyOptimizationJob:
        return PolicyOptimizationJob.from_dict(
            configs[algorithm], backend_url=backend, api_key=key, algorithm=algorithm
        )

    said = {}
    for algorithm in ("mipro", "gepa"):
        job = new_job(algorithm)
        job_id = job.submit()
        polled = job.poll_until_complete(timeout=120, interval=0.2)
        followed = PolicyOptimizationJob.from_job_id(job_id, backend_url=backend, api_key=key)
        said[algorithm] = {
            "job_id": job_id,
            "status": polled.status.value,
            "succeeded": polled.succeeded,
            "best_score": polled.best_score,
            "best_prompt": polled.best_prompt,
            "results": job.get_results(),
            "text": job.get_best_prompt_text(),
            "state": job.query_workflow_state(),
            "get_status": followed.get_status()["status"],
        }

    events: list[str] = []
    job = new_job("mipro")
    job.submit()
    streamed = job.stream_until_complete(timeout=120, interval=0.2, handlers=[collector(events)])
    said["streamed"] = {
        "status": streamed.status.value,
        "best_score": streamed.best_score,
        "best_prompt": streamed.best_prompt,
        "events": events,
    }

    job = new_job("slow")
    job.submit()
    ended: list = []
    waiting = threading.Thread(target=lambda: ended.append(job.poll_until_complete(timeout=60, interval=0.2)))
    waiting.start()
    said["cancel"] = job.cancel(reason="enough")
    waiting.join()
    said["cancelled"] = ended[0].status.value

    said["online"] = online(backend, key, configs["mipro"])
    return said


def online(backend: str, key: str, config: dict) -> dict:
    """A live application: asks where its calls go, makes one, and tells what it was worth."""
    session = MiproOnlineSession.create(backend_url=backend, api_key=key, config_body=config)
    urls = session.get_prompt_urls(correlation_id="trace_request_1")
    system = config["prompt_learning"]["initial_prompt"]["messages"][0]["pattern"]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Ticket: late"}]
    request = urllib.request.Request(
        urls["chat_completions_url"],
        data=json.dumps({"model": "any", "messages": messages}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        answered = json.load(response)["choices"][0]["message"]["content"]
    told = session.update_reward(reward_info={"outcome_reward": 1.0}, correlation_id="trace_request_1")
    state = session.status()["state"]
    orders = [session.pause()["status"], session.resume()["status"], session.cancel()["status"]]
    return {"session_id": session.session_id, "answered": answered, "told": told, "state": state, "orders": orders}


def collector(events: list[str]):
    from synth_ai.core.streaming import CallbackHandler

    return CallbackHandler(on_event=lambda event: events.append(event["type"]))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))

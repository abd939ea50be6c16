"""What runs the stack elsewhere fits the platforms' schemas, names settings that there are, and asks for figures that there are."""

import ast
import json
import re
import shutil
import subprocess

import botocore.session
import botocore.validate
import kubernetes_validate
import pytest
import redis
import yaml
from prometheus_client import generate_latest

from producers.operations.metrics import registry
from producers.stack.services import NAMES
from shared.queue.broker import make_app
from shared.queue.state import heartbeat
from shared.settings import SECRETS, Settings
from tests.conftest import REPOSITORY
from workers.serving.http.server import DRAIN_SECONDS, LAST_SECONDS
from workers.serving.metrics import Metrics

DEPLOY = REPOSITORY / "deploy"
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
KUBERNETES = yaml.safe_load((DEPLOY / "kubernetes/scoring.yaml").read_text())["items"]
TASKS = [json.loads((DEPLOY / f"ecs/{name}.json").read_text()) for name in ("worker", "control", "serve")]
OURS = [container for task in TASKS for container in task["containerDefinitions"]]
PODS = {item["metadata"]["labels"]["part"]: item["spec"]["template"]["spec"] for item in KUBERNETES if item["kind"] == "Deployment"}

VARIABLES = {
    alias if isinstance(alias := field.validation_alias, str) else f"SCORING_{name.upper()}"
    for name, field in Settings.model_fields.items()
}
KNOWN = VARIABLES | {f"{name}_FILE" for name in SECRETS}


@pytest.mark.parametrize(
    "item", [item for item in KUBERNETES if ".sh/" not in item["apiVersion"]], ids=lambda item: item["metadata"]["name"]
)
def test_kubernetes_takes_what_is_not_keda_s(item):
    kubernetes_validate.validate(item, "1.34", strict=True)


def test_keda_scales_a_deployment_that_is_there_by_the_queues_that_its_worker_takes_from():
    [scaled] = [item for item in KUBERNETES if item["kind"] == "ScaledObject"]
    [authentication] = [item for item in KUBERNETES if item["kind"] == "TriggerAuthentication"]
    deployments = {item["metadata"]["name"] for item in KUBERNETES if item["kind"] == "Deployment"}
    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
    assert {trigger["metadata"]["listName"] for trigger in scaled["spec"]["triggers"]} == {"score", "train"}
    assert {trigger["authenticationRef"]["name"] for trigger in scaled["spec"]["triggers"]} == {authentication["metadata"]["name"]}


SERVICES = {name: json.loads((DEPLOY / f"ecs/{name}-service.json").read_text()) for name in ("worker", "control", "serve")}


@pytest.mark.parametrize("name", SERVICES)
def test_ecs_takes_the_services_and_each_runs_its_own_task_definition(name):
    wanted = botocore.session.get_session().get_service_model("ecs").operation_model("CreateService").input_shape
    found = botocore.validate.ParamValidator().validate(SERVICES[name], wanted)
    assert not found.has_errors(), found.generate_report()
    assert SERVICES[name]["taskDefinition"] in {task["family"] for task in TASKS}
    assert SERVICES[name]["deploymentConfiguration"]["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}


def test_ecs_containers_have_an_init_a_read_only_root_and_a_health_check_and_the_end_of_a_dashboard_ends_nothing_else():
    for container in OURS:
        assert container["linuxParameters"] == {"initProcessEnabled": True, "capabilities": {"drop": ["ALL"]}}
        assert container["readonlyRootFilesystem"]
        assert {mount["containerPath"] for mount in container["mountPoints"]} == {"/tmp", "/var/lib/scoring"}
        assert container["healthCheck"]["command"]
        assert container["memoryReservation"] <= container["memory"]
        assert container["essential"] == (container["name"] not in ("flower", "metrics"))
        assert container["restartPolicy"]["enabled"]
        # nobody has to make the group first
        assert container["logConfiguration"]["options"]["awslogs-create-group"] == "true"
    for task in TASKS:
        mounted = {mount["sourceVolume"] for container in task["containerDefinitions"] for mount in container["mountPoints"]}
        assert mounted == {volume["name"] for volume in task["volumes"]}
    assert 'VOLUME ["/tmp", "/var/lib/scoring"]' in (REPOSITORY / "Dockerfile").read_text()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["family"])
def test_ecs_takes_the_task_definitions(task):
    service = botocore.session.get_session().get_service_model("ecs")
    wanted = service.operation_model("RegisterTaskDefinition").input_shape
    found = botocore.validate.ParamValidator().validate(task, wanted)
    assert not found.has_errors(), found.generate_report()


def test_whatever_takes_work_gets_the_time_to_hand_it_back():
    for service in NAMES:
        assert COMPOSE["services"][service]["stop_grace_period"] == "50s"
        assert PODS[service]["terminationGracePeriodSeconds"] >= 45
        assert [container["stopTimeout"] for container in OURS if container["name"] == service] == [60]


def test_each_process_is_asked_for_its_own_health_and_nobody_is_root():
    for service in (*NAMES, "beat", "flower", "serve"):
        command = ["scoring", "health", service]
        assert COMPOSE["services"][service]["healthcheck"]["test"] == ["CMD", *command]
        assert PODS[service]["containers"][0]["livenessProbe"]["exec"]["command"] == command
        assert [container["healthCheck"]["command"] for container in OURS if container["name"] == service] == [["CMD", *command]]
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in PODS.values())
    assert {container["user"] for container in OURS} == {"1000:1000"}


def test_every_setting_that_is_named_is_one():
    [config] = [item["data"] for item in KUBERNETES if item["kind"] == "ConfigMap"]
    named = {*config} | {variable["name"] for pod in PODS.values() for variable in pod["containers"][0]["env"]}
    named |= {variable["name"] for container in OURS for variable in container["environment"] + container["secrets"]}
    assert named <= KNOWN


ALL_SECRETS = {"redis-url", "store-key", "webhook-url", "flower-password"}
OWN_SECRETS = {
    "worker": {"redis-url", "store-key", "webhook-url"},
    "control": {"redis-url", "store-key", "webhook-url"},
    "beat": {"redis-url"},
    "flower": {"redis-url", "flower-password"},
    "metrics": {"redis-url"},
    "serve": {"redis-url", "store-key", "serve-tokens"},
}
"""What each process cannot do its work without."""
OF_STORE = {"aws-credentials"}
"""In compose alone; elsewhere the cloud gives a process its right to the bucket."""


@pytest.mark.parametrize("part", OWN_SECRETS)
def test_each_process_gets_its_own_secrets_and_no_other(part):
    own = OWN_SECRETS[part]
    assert {*COMPOSE["services"][part]["secrets"]} - OF_STORE == own
    [items] = [volume["secret"]["items"] for volume in PODS[part]["volumes"] if "secret" in volume]
    assert {item["key"] for item in items} == {item["path"] for item in items} == own
    [container] = [container for container in OURS if container["name"] == part]
    assert {secret["name"] for secret in container["secrets"]} == {
        {"redis-url": "REDIS_URL", "webhook-url": "WEBHOOK_URL"}.get(name, f"SCORING_{name.upper().replace('-', '_')}") for name in own
    }
    read = {variable["value"] for variable in PODS[part]["containers"][0]["env"] if variable["name"].endswith("_FILE")}
    assert {value.rpartition("/")[2] for value in read} | {"redis-url"} == own


SECRET_VARIABLES = {*SECRETS, "REDIS_PASSWORD", "SCORING_NOTEBOOK_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


def test_no_container_has_a_secret_in_its_environment_or_its_command_and_none_gets_all_of_env():
    for service in COMPOSE["services"].values():
        assert "env_file" not in service
        assert not SECRET_VARIABLES & {*service.get("environment", {})}
    # where docker-compose puts a value in, it is not that of a secret
    assert not SECRET_VARIABLES & {*re.findall(r"(?<!\$)\$\{(\w+)", (REPOSITORY / "docker-compose.yml").read_text())}
    files = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert files == {name: f"./.secrets/{name}" for name in files}
    used = {name for service in COMPOSE["services"].values() for name in service.get("secrets", [])}
    assert used == {*files}
    script = (REPOSITORY / "docker_environment.sh").read_text()
    assert {*re.findall(r"^        secret ([\w-]+) ", script, flags=re.MULTILINE)} == used


def test_every_setting_that_is_not_secret_reaches_the_containers_of_docker_compose():
    given = {*COMPOSE["services"]["worker"]["environment"]}
    # what the image says, and what means something else inside of a container
    inside = {
        "SCORING_HOME",
        "SCORING_FLOWER_HOST",
        "SCORING_FLOWER_PORT",
        "SCORING_SERVE_HOST",
        "SCORING_SERVE_PORT",
        "SCORING_REDIS_PORT",
        "SCORING_LOG_FILE",
    }
    assert VARIABLES - {*SECRETS} - inside - given == set()


def test_every_container_of_docker_compose_has_limits_an_init_a_read_only_root_and_no_right_of_root():
    for name, service in COMPOSE["services"].items():
        assert service["init"] is True, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name
        assert int(service["pids_limit"]) > 0, name
        assert "cpus" in service or "cpu_shares" in service, name
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"]), name


def test_kubernetes_limits_every_container_and_waits_until_it_works():
    for part, pod in PODS.items():
        [container] = pod["containers"]
        for amount in ("requests", "limits"):
            assert {*container["resources"][amount]} == {"cpu", "memory", "ephemeral-storage"}, part
        assert container["startupProbe"], part
        assert container["readinessProbe"], part
        assert container["securityContext"]["readOnlyRootFilesystem"], part
        assert pod["shareProcessNamespace"], part
        if part in (*NAMES, "beat"):
            assert container["startupProbe"]["exec"] == container["readinessProbe"]["exec"] == container["livenessProbe"]["exec"], part


def test_kubernetes_spreads_the_workers_empties_nodes_one_by_one_and_lets_nobody_in():
    budgets = {item["metadata"]["name"]: item["spec"] for item in KUBERNETES if item["kind"] == "PodDisruptionBudget"}
    for part in NAMES:
        labels = {"app": "scoring", "part": part}
        assert budgets[f"scoring-{part}"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
        spread = PODS[part]["topologySpreadConstraints"]
        assert {constraint["topologyKey"] for constraint in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        assert all(constraint["labelSelector"]["matchLabels"] == labels for constraint in spread)
    policies = {item["metadata"]["name"]: item["spec"] for item in KUBERNETES if item["kind"] == "NetworkPolicy"}
    assert policies["scoring"]["podSelector"] == {"matchLabels": {"app": "scoring"}}
    assert policies["scoring"]["ingress"] == []
    assert policies["scoring-metrics"]["podSelector"] == {"matchLabels": {"app": "scoring", "part": "metrics"}}


def of_file(name):
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_prometheus_operator_scrapes_the_figures_and_has_the_same_rules():
    monitor, rule = of_file("monitoring/service-monitor.yaml"), of_file("monitoring/prometheus-rule.yaml")
    [service] = [item for item in KUBERNETES if item["kind"] == "Service" and item["metadata"]["name"] == "scoring-metrics"]
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
    # the rules ask for this job
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "scoring"
    assert rule["spec"] == of_file("metrics/alerts.yml")
    assert (monitor["apiVersion"], rule["apiVersion"]) == ("monitoring.coreos.com/v1",) * 2


def test_every_file_that_kustomize_is_given_is_there():
    for file in DEPLOY.rglob("kustomization.yaml"):
        made_of = yaml.safe_load(file.read_text())
        for name in made_of["resources"] + made_of.get("components", []):
            place = file.parent / name
            assert place.is_file() or (place / "kustomization.yaml").is_file(), f"{file}: {name}"
        for patch in made_of.get("patches", []):
            assert any(
                item["kind"] == patch["target"]["kind"] and item["metadata"]["name"] == patch["target"]["name"] for item in KUBERNETES
            )
        images = {pod["containers"][0]["image"].rpartition(":")[0] for pod in PODS.values()}
        assert {image["name"] for image in made_of.get("images", [])} <= images


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_kustomize_makes_the_overlay_and_kubernetes_takes_it():
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "overlays/example")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    for item in made:
        if ".sh/" not in item["apiVersion"] and ".coreos.com/" not in item["apiVersion"]:
            kubernetes_validate.validate(item, "1.34", strict=True)
    assert {item["kind"] for item in made} >= {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"}
    assert {item["metadata"].get("namespace") for item in made if item["kind"] != "Namespace"} == {"scoring"}
    [config] = [item["data"] for item in made if item["kind"] == "ConfigMap"]
    assert config["BUCKET_URL"].startswith("s3://example")


def test_the_example_of_settings_names_what_docker_compose_asks_for():
    asked = {*re.findall(r"\$\{(\w+)", (REPOSITORY / "docker-compose.yml").read_text())} - {"SCORING_FLOWER_USER"}
    example = {*re.findall(r"^#?([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), flags=re.MULTILINE)}
    assert asked <= example
    only_here = {"REDIS_PASSWORD", "SCORING_UID", "SCORING_GID", "SCORING_BUCKET", "SCORING_WORKERS", "SCORING_IMAGE_TAG"}
    only_here |= {f"SCORING_{name}" for name in ("NOTEBOOK_TOKEN", "NOTEBOOK_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "WORKER_CPUS")}
    only_here |= {f"SCORING_{name}_MEMORY" for name in ("WORKER", "CONTROL", "NOTEBOOK", "SERVE", "REDIS")} | {"SCORING_REDIS_MEMORY_LIMIT"}
    assert {name for name in example if not name.startswith(("AWS_", "GOOGLE_"))} - only_here <= KNOWN


def test_the_service_of_flower_does_not_hand_every_pod_an_address_for_a_port():
    variables = {f"{item['metadata']['name']}_PORT".upper().replace("-", "_") for item in KUBERNETES if item["kind"] == "Service"}
    assert "SCORING_FLOWER_PORT" in variables & KNOWN
    assert {part: pod.get("enableServiceLinks") for part, pod in PODS.items()} == dict.fromkeys(PODS, False)


def test_flower_is_heard_outside_of_its_container():
    [ecs] = [container["environment"] for container in OURS if container["name"] == "flower"]
    wanted = {"name": "SCORING_FLOWER_HOST", "value": "0.0.0.0"}
    assert wanted in ecs
    assert wanted in PODS["flower"]["containers"][0]["env"]
    assert "ENV SCORING_FLOWER_HOST=0.0.0.0\n" in (REPOSITORY / "Dockerfile").read_text()


def test_the_server_is_heard_outside_of_its_container_scales_by_its_load_and_is_replaced_pod_by_pod():
    [ecs] = [container for container in OURS if container["name"] == "serve"]
    wanted = {"name": "SCORING_SERVE_HOST", "value": "0.0.0.0"}
    assert wanted in ecs["environment"]
    assert wanted in PODS["serve"]["containers"][0]["env"]
    assert "ENV SCORING_SERVE_HOST=0.0.0.0\n" in (REPOSITORY / "Dockerfile").read_text()
    [scaler] = [item["spec"] for item in KUBERNETES if item["kind"] == "HorizontalPodAutoscaler"]
    [deployment] = [item for item in KUBERNETES if item["kind"] == "Deployment" and item["metadata"]["name"] == "scoring-serve"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    # the scaler alone sets it
    assert "replicas" not in deployment["spec"]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert SERVICES["serve"]["deploymentConfiguration"]["minimumHealthyPercent"] == 100
    # one late answer takes no pod away, and a pod that drains is known before it takes no more connections
    probe = PODS["serve"]["containers"][0]["readinessProbe"]
    assert 2 <= probe["failureThreshold"] * probe["periodSeconds"] < DRAIN_SECONDS
    most = DRAIN_SECONDS + LAST_SECONDS
    for seconds in (
        ecs["stopTimeout"],
        PODS["serve"]["terminationGracePeriodSeconds"],
        int(COMPOSE["services"]["serve"]["stop_grace_period"][:-1]),
    ):
        assert most < seconds


def test_a_slow_page_of_figures_does_not_end_its_pod():
    assert "tcpSocket" in PODS["metrics"]["containers"][0]["livenessProbe"]


def test_workers_are_taken_away_only_after_the_longest_task_that_waited_has_ended():
    [scaled] = [item["spec"] for item in KUBERNETES if item["kind"] == "ScaledObject"]
    seconds = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    assert seconds >= make_app(Settings()).conf.task_time_limit
    # what has no effect while one worker always stays
    assert "cooldownPeriod" not in scaled


LENGTH_SCRIPT = """
local kind = redis.call("type", KEYS[1]).ok
if kind == "none" or kind == "list" then return redis.call("llen", KEYS[1]) end
"""
"""Asks what KEDA's scaler of lists asks, by the same commands."""


@pytest.mark.server
def test_keda_counts_what_waits_as_its_documented_user_who_can_do_nothing_else(redis_url):
    [line] = re.findall(
        r"^user (scoring-keda on >password .*)$", (REPOSITORY / "docs/how-to/protect-redis.md").read_text(), flags=re.MULTILINE
    )
    admin = redis.Redis.from_url(redis_url)
    admin.execute_command("ACL", "SETUSER", *line.split())
    try:
        address = redis_url.replace("redis://", "redis://scoring-keda:password@")
        for protocol in (2, 3):
            keda = redis.Redis.from_url(address, protocol=protocol, client_name="keda")
            for queue, waiting in (("score", 3), ("train", 0)):
                admin.delete(queue)
                for _ in range(waiting):
                    admin.lpush(queue, "message")
                assert keda.eval(LENGTH_SCRIPT, 1, queue) == waiting
            for command in (("LPUSH", "score", "x"), ("LRANGE", "score", "0", "-1"), ("LLEN", "control"), ("KEYS", "*"), ("DEL", "score")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    keda.execute_command(*command)
    finally:
        admin.execute_command("ACL", "DELUSER", "scoring-keda")
        admin.delete("score", "train")


def test_keda_reads_the_queues_as_that_user():
    [authentication] = [item["spec"] for item in KUBERNETES if item["kind"] == "TriggerAuthentication"]
    keys = {target["parameter"]: target["key"] for target in authentication["secretTargetRef"]}
    assert keys == {"address": "redis-address", "username": "keda-username", "password": "keda-password"}
    text = (DEPLOY / "kubernetes/scoring.yaml").read_text()
    assert "--from-literal=keda-username=scoring-keda" in text
    assert all(f"--from-literal={key}=" in text for key in keys.values())


def figures_of(redis_url, bucket):
    client = redis.Redis.from_url(redis_url)
    for sign in (heartbeat.BEAT, heartbeat.SWEEP):
        heartbeat.update_heartbeat(client, sign)
    client.config_set("maxmemory", "1gb")
    try:
        text = generate_latest(registry(Settings(redis_url=redis_url, bucket_url=str(bucket)))).decode()
    finally:
        client.config_set("maxmemory", "0")
    text += generate_latest(Metrics().registry).decode()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE):
        yield name
        if kind == "histogram":
            yield f"{name}_bucket"


SCHEDULE = "scoring_schedule_last_success_timestamp_seconds"


def test_dashboard_and_alerts_ask_for_figures_that_the_exporter_gives(redis_url, tmp_path):
    given = {*figures_of(redis_url, tmp_path / "bucket")} | {SCHEDULE}
    board = json.loads((DEPLOY / "metrics/grafana/dashboards/scoring.json").read_text())
    shown = {name for panel in board["panels"] for target in panel["targets"] for name in re.findall(r"scoring_\w+", target["expr"])}
    assert shown <= given
    assert {name for rule in rules().values() for name in re.findall(r"scoring_\w+", rule["expr"])} <= given


def rules():
    groups = yaml.safe_load((DEPLOY / "metrics/alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_what_is_not_there_at_all_raises_an_alarm_too():
    for alarm, figure in (
        ("NoFigures", 'up{job="scoring"}'),
        ("SweepSilent", "scoring_sweep_age_seconds"),
        ("BeatSilent", "scoring_beat_age_seconds"),
    ):
        assert f"absent({figure})" in rules()[alarm]["expr"]
    assert {f'scoring_up{{what="{what}"}} == 0' for what in ("redis", "bucket")} <= {rule["expr"] for rule in rules().values()}


def test_the_schedule_raises_an_alarm_by_the_times_of_each_entry_and_not_by_a_fixed_age():
    assert rules()["ScheduleMissed"]["expr"] == "scoring_schedule_overdue_seconds > 0"
    assert not any(SCHEDULE in rule["expr"] for rule in rules().values())


def anchors(text):
    """The addresses within a Markdown page, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_alarm_has_a_severity_and_a_runbook_that_is_there():
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert anchor == name.lower()
        text = (REPOSITORY / page).read_text()
        assert anchor in anchors(text), f"{page} has no section {anchor}"
        section = re.split(r"^#", text.partition(f"\n## {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        assert re.findall(r"\*\*(\w+ ?\w*)\.\*\*", section) == ["Means", "Look", "Do"], name


def test_prometheus_has_a_place_for_an_alertmanager():
    [manager] = yaml.safe_load((DEPLOY / "metrics/prometheus.yml").read_text())["alerting"]["alertmanagers"]
    assert manager == {"static_configs": [{"targets": []}]}


def test_no_panel_of_the_dashboard_lies_on_another():
    places = [panel["gridPos"] for panel in json.loads((DEPLOY / "metrics/grafana/dashboards/scoring.json").read_text())["panels"]]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(cells) == len(set(cells))


def test_the_airflow_example_is_python_and_asks_with_commands_that_there_are():
    [code] = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/how-to/airflow.md").read_text(), flags=re.DOTALL)
    words = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert {"score", "train"} <= {word.split()[0] for word in words if word}

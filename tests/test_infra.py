"""The files that Docker reads are well-formed and agree with each other. Docker itself is not run."""
import re

import yaml

from local.stores import ROOT


def test_compose_starts_the_nodes_that_haproxy_and_prometheus_know():
    compose = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
    nodes = {name for name, service in compose["services"].items() if service.get("image") == "weir"}
    assert len(nodes) == 3
    assert set(re.findall(r"^\s+server (\S+) \1:9092 check port 8080", (ROOT / "infra/haproxy.cfg").read_text(), re.M)) == nodes
    jobs = {job["job_name"]: job["static_configs"][0]["targets"]
            for job in yaml.safe_load((ROOT / "infra/prometheus.yml").read_text())["scrape_configs"]}
    assert {target.removesuffix(":8080") for target in jobs["weir"]} == nodes
    for name in nodes:
        assert "--kafka=0.0.0.0:9092" in compose["services"][name]["command"]


def test_every_file_that_a_compose_file_mounts_is_there():
    for path in ("infra/compose.yaml", "localstack/compose.yaml"):
        folder = (ROOT / path).parent
        services = yaml.safe_load((ROOT / path).read_text())["services"]
        for service in services.values():
            for needed in service.get("depends_on", []):
                assert needed in services
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    assert (folder / source).is_file(), f"{path} mounts {source}"
    dockerfile = (ROOT / "infra/Dockerfile").read_text()
    assert re.search(r"^USER weir$", dockerfile, re.M), "it does not run as root"

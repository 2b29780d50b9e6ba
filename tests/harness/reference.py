"""Apache Kafka's own server, one node in KRaft mode: what passes against it tests Kafka's behaviour."""
import subprocess

from local import SETUP, Process, free_port

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://{kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{kafka}
controller.listener.names=CONTROLLER
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


class Reference(Process):
    def __init__(self, directory, log):
        directory.mkdir(parents=True, exist_ok=True)
        self.kafka = f"127.0.0.1:{free_port()}"
        self.properties = directory / "server.properties"
        self.properties.write_text(
            PROPERTIES.format(kafka=self.kafka, controller=free_port(), directory=directory)
        )
        self.java = ["java", "-Xmx700m", "-cp", f"{SETUP}/reference/*"]
        super().__init__("kafka", [*self.java, "kafka.Kafka", self.properties], log)

    @staticmethod
    def missing():
        return None if (SETUP / "reference").exists() else "Apache Kafka: run tests/setup --reference"

    def start(self):
        subprocess.run(
            [*self.java, "kafka.tools.StorageTool", "format", "--standalone",
             "-t", "d2Vpci10ZXN0cy1jbHVzdA", "-c", str(self.properties)],
            check=True, capture_output=True,
        )
        super().start()
        from confluent_kafka.admin import AdminClient

        def answers():
            try:
                return AdminClient({"bootstrap.servers": self.kafka, "log_level": 0}).list_topics(timeout=2)
            except Exception:  # noqa: BLE001: it is not up yet
                return None

        self.await_ready(answers, 60)
        return self

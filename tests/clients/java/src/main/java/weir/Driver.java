package weir;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.StringSerializer;

/** Apache's client: answers the requests described in tests/README.md, one line of JSON each. */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String[] ABILITIES = {
        "produce", "join", "take", "assigned", "commit", "leave", "times", "topics", "create_topic",
        "delete_topic", "partitions", "add_partitions", "configs", "alter_configs", "delete_records",
        "groups", "describe_group", "delete_group", "group_offsets", "alter_group_offsets",
        "delete_group_offsets", "cluster", "drain", "gzip", "snappy", "lz4", "zstd", "idempotent",
        "static", "cooperative-sticky", "incremental", "pattern", "plan_topic", "unset_configs", "topic_sizes",
    };

    private final String bootstrap;
    private final Admin admin;
    private final Map<String, Member> members = new HashMap<>();

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        Driver driver = new Driver(arguments[0]);
        answers.println(JSON.writeValueAsString(Map.of("ok", ABILITIES)));
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = requests.readLine()) != null; ) {
            Map<String, Object> answer = new HashMap<>();
            try {
                answer.put("ok", driver.answer(JSON.readTree(line)));
            } catch (Throwable error) {
                Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
                int code = Errors.forException(cause).code();
                Map<String, Object> told = new HashMap<>();
                told.put("code", code == -1 ? null : code);
                told.put("text", cause.toString());
                answer.put("error", told);
            }
            answers.println(JSON.writeValueAsString(answer));
        }
        Runtime.getRuntime().halt(0);
    }

    private Object answer(JsonNode request) throws Exception {
        String topic = request.path("topic").asText();
        String group = request.path("group").asText();
        TopicPartition place = new TopicPartition(topic, request.path("partition").asInt());
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        switch (request.get("do").asText()) {
            case "produce":
                return produce(topic, request);
            case "join":
                join(request);
                return null;
            case "take":
                return member(request).take(request.get("count").asInt(), request.get("ms").asLong());
            case "assigned":
                return member(request).assigned();
            case "commit":
                member(request).commit(offsets(request));
                return null;
            case "leave":
                members.remove(request.get("member").asText()).leave();
                return null;
            case "drain":
                return Member.drain(bootstrap, group, topic, request.get("members").asInt(),
                    request.get("count").asLong(), Path.of(request.get("directory").asText()));
            case "times":
                return admin.listOffsets(Map.of(place, spec(request.get("at")))).all().get().get(place).offset();
            case "topics":
                return admin.listTopics().names().get();
            case "create_topic":
                NewTopic made = new NewTopic(topic, request.get("partitions").asInt(),
                    (short) request.path("replicas").asInt(1));
                return admin.createTopics(List.of(made.configs(texts(request.path("configs"))))).all().get();
            case "plan_topic":
                NewTopic planned = new NewTopic(topic, request.get("partitions").asInt(), (short) 1);
                CreateTopicsResult plan = admin.createTopics(
                    List.of(planned.configs(texts(request.path("configs")))),
                    new CreateTopicsOptions().validateOnly(true));
                return Map.of("partitions", plan.numPartitions(topic).get(),
                    "configs", plan.config(topic).get().entries().stream().collect(Collectors.toMap(
                        ConfigEntry::name, entry -> Arrays.asList(entry.value(), entry.isDefault()))));
            case "delete_topic":
                return admin.deleteTopics(List.of(topic)).all().get();
            case "partitions":
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            case "add_partitions":
                return admin.createPartitions(
                    Map.of(topic, NewPartitions.increaseTo(request.get("count").asInt()))).all().get();
            case "configs":
                Config found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                return found.entries().stream().collect(Collectors.toMap(
                    ConfigEntry::name, entry -> Arrays.asList(entry.value(), entry.isDefault())));
            case "alter_configs":
                return admin.incrementalAlterConfigs(Map.of(resource,
                    texts(request.get("configs")).entrySet().stream().map(entry -> new AlterConfigOp(
                        new ConfigEntry(entry.getKey(), entry.getValue()),
                        AlterConfigOp.OpType.SET)).toList())).all().get();
            case "unset_configs":
                List<AlterConfigOp> unset = new ArrayList<>();
                texts(request.path("configs")).forEach((name, value) -> unset.add(
                    new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
                request.get("names").forEach(name -> unset.add(
                    new AlterConfigOp(new ConfigEntry(name.asText(), null), AlterConfigOp.OpType.DELETE)));
                return admin.incrementalAlterConfigs(Map.of(resource, unset)).all().get();
            case "topic_sizes":
                return sizes();
            case "delete_records":
                return admin.deleteRecords(
                        Map.of(place, RecordsToDelete.beforeOffset(request.get("before").asLong())))
                    .lowWatermarks().get(place).get().lowWatermark();
            case "groups":
                return admin.listGroups().all().get().stream().map(listed -> listed.groupId()).toList();
            case "describe_group":
                return described(admin.describeConsumerGroups(List.of(group)).all().get().get(group));
            case "delete_group":
                return admin.deleteConsumerGroups(List.of(group)).all().get();
            case "group_offsets":
                return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                    .entrySet().stream().filter(entry -> entry.getKey().topic().equals(topic))
                    .sorted((left, right) -> left.getKey().partition() - right.getKey().partition())
                    .map(entry -> List.of(entry.getKey().partition(), entry.getValue().offset())).toList();
            case "alter_group_offsets":
                return admin.alterConsumerGroupOffsets(group, offsets(request)).all().get();
            case "delete_group_offsets":
                List<Integer> numbers = new ArrayList<>();
                request.get("partitions").forEach(number -> numbers.add(number.asInt()));
                return admin.deleteConsumerGroupOffsets(group, numbers.stream()
                    .map(number -> new TopicPartition(topic, number)).collect(Collectors.toSet())).all().get();
            case "cluster":
                return Map.of("id", admin.describeCluster().clusterId().get(),
                    "nodes", admin.describeCluster().nodes().get().stream()
                        .map(node -> node.host() + ":" + node.port()).sorted().toList());
            default:
                throw new IllegalArgumentException("unknown request " + request);
        }
    }

    private Member member(JsonNode request) {
        return members.get(request.get("member").asText());
    }

    private static OffsetSpec spec(JsonNode at) {
        return switch (at.asText()) {
            case "earliest" -> OffsetSpec.earliest();
            case "latest" -> OffsetSpec.latest();
            default -> OffsetSpec.forTimestamp(at.asLong());
        };
    }

    private static Map<String, String> texts(JsonNode object) {
        Map<String, String> texts = new HashMap<>();
        object.properties().forEach(entry -> texts.put(entry.getKey(), entry.getValue().asText()));
        return texts;
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(JsonNode request) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        request.get("offsets").forEach(entry -> offsets.put(
            new TopicPartition(entry.get(0).asText(), entry.get(1).asInt()),
            new OffsetAndMetadata(entry.get(2).asLong())));
        return offsets;
    }

    private static Object described(ConsumerGroupDescription found) {
        return Map.of(
            "state", found.groupState().toString().toLowerCase(),
            "members", found.members().stream().map(member -> List.of(
                    member.clientId(), Member.sorted(member.assignment().topicPartitions())))
                .sorted((left, right) -> left.get(0).toString().compareTo(right.get(0).toString())).toList());
    }

    /** The bytes of each topic: the sum over all brokers, directories and partitions. */
    private Map<String, Long> sizes() throws Exception {
        List<Integer> brokers = admin.describeCluster().nodes().get().stream().map(node -> node.id()).toList();
        Map<String, Long> sizes = new HashMap<>();
        for (Map<String, LogDirDescription> directories
            : admin.describeLogDirs(brokers).allDescriptions().get().values()) {
            for (LogDirDescription directory : directories.values()) {
                directory.replicaInfos().forEach((place, replica) ->
                    sizes.merge(place.topic(), replica.size(), Long::sum));
            }
        }
        return sizes;
    }

    private void join(JsonNode request) {
        Map<String, Object> config = Member.config(bootstrap, request.get("group").asText());
        config.put("client.id", request.get("member").asText());
        config.put("session.timeout.ms", request.path("session_ms").asInt(6000));
        if (request.hasNonNull("instance")) {
            config.put("group.instance.id", request.get("instance").asText());
        }
        config.put("partition.assignment.strategy",
            request.path("strategy").asText("range").equals("range")
                ? "org.apache.kafka.clients.consumer.RangeAssignor"
                : "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        List<String> topics = new ArrayList<>();
        request.path("topics").forEach(topic -> topics.add(topic.asText()));
        Pattern pattern = request.hasNonNull("pattern") ? Pattern.compile(request.get("pattern").asText()) : null;
        members.put(request.get("member").asText(), new Member(config, topics, pattern));
    }

    private Object produce(String topic, JsonNode request) throws Exception {
        Map<String, Object> config = new LinkedHashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", request.path("codec").asText("none"));
        config.put("enable.idempotence", request.path("idempotent").asBoolean(false));
        config.put("acks", request.path("acks").asText("all"));
        config.put("linger.ms", 5);
        config.put("delivery.timeout.ms", 20000);
        config.put("request.timeout.ms", 10000);
        config.put("max.block.ms", 20000);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode item : request.get("records")) {
                RecordHeaders headers = new RecordHeaders();
                item.path("headers").forEach(
                    header -> headers.add(header.get(0).asText(), Member.bytes(header.get(1).textValue())));
                sent.add(producer.send(new ProducerRecord<>(topic,
                    item.hasNonNull("partition") ? item.get("partition").asInt() : null,
                    item.hasNonNull("timestamp") ? item.get("timestamp").asLong() : null,
                    item.path("key").textValue(), item.path("value").textValue(), headers)));
            }
            List<List<Long>> delivered = new ArrayList<>();
            for (Future<RecordMetadata> future : sent) {
                delivered.add(List.of((long) future.get().partition(), future.get().offset()));
            }
            return delivered;
        }
    }
}

package weir;

import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Function;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A consumer in a thread of its own, which polls it and does what others ask of it. */
final class Member {
    private final List<Map<String, Object>> records = new ArrayList<>();
    private final BlockingQueue<Runnable> asked = new ArrayBlockingQueue<>(100);
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Thread thread;
    private volatile boolean leaving;
    private volatile RuntimeException failure;

    /** A member that reads these topics or, if there is a pattern, all whose names it matches. */
    Member(Map<String, Object> config, List<String> topics, Pattern pattern) {
        consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        if (pattern == null) {
            consumer.subscribe(topics);
        } else {
            consumer.subscribe(pattern);
        }
        thread = new Thread(this::run);
        thread.setDaemon(true);
        thread.start();
    }

    static Map<String, Object> config(String bootstrap, String group) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", group);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        config.put("heartbeat.interval.ms", 500);
        config.put("metadata.max.age.ms", 2000);
        return config;
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] data) {
        return data == null ? null : new String(data, StandardCharsets.UTF_8);
    }

    static List<List<Object>> sorted(Collection<TopicPartition> places) {
        return places.stream()
            .sorted((left, right) -> left.toString().compareTo(right.toString()))
            .map(place -> List.<Object>of(place.topic(), place.partition())).toList();
    }

    private void run() {
        try {
            while (!leaving) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                    add(record);
                }
                for (Runnable work; (work = asked.poll()) != null; ) {
                    work.run();
                }
            }
            consumer.close();
        } catch (RuntimeException error) {
            failure = error;
        }
    }

    private void add(ConsumerRecord<byte[], byte[]> record) {
        List<List<String>> headers = new ArrayList<>();
        record.headers().forEach(header -> headers.add(java.util.Arrays.asList(header.key(), text(header.value()))));
        Map<String, Object> told = new HashMap<>();
        told.put("topic", record.topic());
        told.put("partition", record.partition());
        told.put("offset", record.offset());
        told.put("timestamp", record.timestamp());
        told.put("key", text(record.key()));
        told.put("value", text(record.value()));
        told.put("headers", headers);
        synchronized (records) {
            records.add(told);
            records.notifyAll();
        }
    }

    List<Map<String, Object>> take(int count, long ms) throws InterruptedException {
        long end = System.currentTimeMillis() + ms;
        synchronized (records) {
            while (records.size() < count && System.currentTimeMillis() < end) {
                records.wait(Math.max(1, Math.min(100, end - System.currentTimeMillis())));
                if (failure != null) {
                    throw failure;
                }
            }
            List<Map<String, Object>> taken = new ArrayList<>(records);
            records.clear();
            return taken;
        }
    }

    private <T> T ask(Function<KafkaConsumer<byte[], byte[]>, T> work) throws Exception {
        CompletableFuture<T> result = new CompletableFuture<>();
        asked.put(() -> {
            try {
                result.complete(work.apply(consumer));
            } catch (RuntimeException error) {
                result.completeExceptionally(error);
            }
        });
        return result.get(20, TimeUnit.SECONDS);
    }

    List<List<Object>> assigned() throws Exception {
        return ask(consumer -> sorted(consumer.assignment()));
    }

    void commit(Map<TopicPartition, OffsetAndMetadata> offsets) throws Exception {
        ask(consumer -> {
            consumer.commitSync(offsets);
            return null;
        });
    }

    void leave() throws InterruptedException {
        leaving = true;
        thread.join(20000);
    }

    /**
     * Reads `count` records of a topic with a group of some members, and writes each partition to a
     * file of `directory` named by its number: offset (8 bytes), length (4 bytes), value, and so on.
     * Commits everything, and tells how many records each member read.
     */
    static Map<String, Long> drain(String bootstrap, String group, String topic, int members, long count,
            Path directory) throws Exception {
        AtomicLong left = new AtomicLong(count);
        Map<String, Long> read = new TreeMap<>();
        List<Thread> threads = new ArrayList<>();
        List<Throwable> failures = new ArrayList<>();
        for (int number = 0; number < members; number++) {
            String name = "member-" + number;
            Thread thread = new Thread(() -> {
                try {
                    long mine = drainOne(bootstrap, group, topic, name, left, directory);
                    synchronized (read) {
                        read.put(name, mine);
                    }
                } catch (Throwable error) {
                    synchronized (failures) {
                        failures.add(error);
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (!failures.isEmpty()) {
            throw new IllegalStateException(failures.get(0));
        }
        return read;
    }

    private static long drainOne(String bootstrap, String group, String topic, String name, AtomicLong left,
            Path directory) throws IOException {
        Map<String, Object> config = config(bootstrap, group);
        config.put("client.id", name);
        config.put("max.poll.records", 20000);
        config.put("fetch.max.wait.ms", 100);
        Map<Integer, DataOutputStream> files = new HashMap<>();
        long read = 0;
        long quietSince = System.nanoTime();
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (left.get() > 0 && System.nanoTime() - quietSince < TimeUnit.SECONDS.toNanos(120)) {
                var polled = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : polled) {
                    DataOutputStream file = files.get(record.partition());
                    if (file == null) {
                        // A second member that writes it too would mean that two own the partition.
                        Path path = directory.resolve(Integer.toString(record.partition()));
                        boolean append = Files.exists(path);
                        file = new DataOutputStream(new BufferedOutputStream(append
                            ? Files.newOutputStream(path, java.nio.file.StandardOpenOption.APPEND)
                            : Files.newOutputStream(path), 1 << 16));
                        files.put(record.partition(), file);
                    }
                    file.writeLong(record.offset());
                    file.writeInt(record.value().length);
                    file.write(record.value());
                }
                if (!polled.isEmpty()) {
                    for (DataOutputStream file : files.values()) {
                        file.flush();
                    }
                    read += polled.count();
                    quietSince = System.nanoTime();
                    consumer.commitSync();
                    left.addAndGet(-polled.count());
                }
            }
        } finally {
            for (DataOutputStream file : files.values()) {
                file.close();
            }
        }
        return read;
    }
}

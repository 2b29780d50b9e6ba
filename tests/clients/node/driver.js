// kafkajs: answers the requests described in tests/README.md, one line of JSON each.
'use strict'
const readline = require('readline')
const { Kafka, logLevel, CompressionTypes, CompressionCodecs, ConfigResourceTypes } = require('kafkajs')

const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')

// kafkajs itself has gzip; the others come from npm packages that compile nothing when installed.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
const zstd = new Promise(done => ZstdCodec.run(library => done(new library.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

const kafka = new Kafka({
  clientId: 'kafkajs', brokers: process.argv[2].split(','), logLevel: logLevel.NOTHING,
  retry: { retries: 8, initialRetryTime: 100, maxRetryTime: 2000 },
})
const admin = kafka.admin()
const members = new Map()
const text = data => (data === null || data === undefined ? null : data.toString())

class Member {
  constructor(consumer) {
    this.consumer = consumer
    this.assigned = []
    this.records = []
    this.wake = () => {}
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      this.assigned = Object.entries(payload.memberAssignment)
        .flatMap(([topic, partitions]) => partitions.map(partition => [topic, partition]))
    })
    consumer.on(consumer.events.REBALANCING, () => { this.assigned = [] })
  }

  add(topic, partition, { offset, timestamp, key, value, headers }) {
    this.records.push({
      topic, partition, offset: Number(offset), timestamp: Number(timestamp), key: text(key),
      value: text(value),
      headers: Object.entries(headers || {}).map(([name, content]) => [name, text(content)]),
    })
    this.wake()
  }

  async take(count, ms) {
    const end = Date.now() + ms
    while (this.records.length < count && Date.now() < end) {
      await new Promise(done => {
        this.wake = done
        setTimeout(done, Math.min(100, end - Date.now()))
      })
    }
    return this.records.splice(0)
  }
}

const requests = {
  async produce({ topic, records, codec = 'none', idempotent = false, acks = 'all' }) {
    const producer = kafka.producer({ idempotent, allowAutoTopicCreation: true })
    await producer.connect()
    try {
      const answers = await producer.send({
        topic, acks: acks === 'all' ? -1 : Number(acks), compression: CODECS[codec],
        messages: records.map(({ key = null, value = null, headers = [], partition, timestamp }) => ({
          key, value, partition, headers: Object.fromEntries(headers),
          timestamp: timestamp === undefined ? undefined : String(timestamp),
        })),
      })
      // It tells the first offset of each partition; the records of one follow each other.
      const next = new Map(answers.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
      if (records.some(({ partition }) => partition === undefined)) return null
      return records.map(({ partition }) => {
        const offset = next.get(partition)
        next.set(partition, offset + 1)
        return [partition, offset]
      })
    } finally {
      await producer.disconnect()
    }
  },

  async join({ member, group, topics, session_ms = 6000 }) {
    const consumer = new Kafka({
      clientId: member, brokers: process.argv[2].split(','), logLevel: logLevel.NOTHING,
      retry: { retries: 8, initialRetryTime: 100, maxRetryTime: 2000 },
    }).consumer({
      groupId: group, sessionTimeout: session_ms, heartbeatInterval: 500, rebalanceTimeout: 10000,
      maxWaitTimeInMs: 200, metadataMaxAge: 2000,
    })
    const joined = new Member(consumer)
    members.set(member, joined)
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ topic, partition, message }) => joined.add(topic, partition, message),
    })
  },
  take: ({ member, count, ms }) => members.get(member).take(count, ms),
  assigned: async ({ member }) => members.get(member).assigned,
  commit: ({ member, offsets }) => members.get(member).consumer.commitOffsets(
    offsets.map(([topic, partition, offset]) => ({ topic, partition, offset: String(offset) })),
  ),
  async leave({ member }) {
    const left = members.get(member)
    members.delete(member)
    await left.consumer.disconnect()
  },

  async times({ topic, partition, at }) {
    const find = found => found.find(entry => entry.partition === partition)
    if (at === 'earliest') return Number(find(await admin.fetchTopicOffsets(topic)).low)
    if (at === 'latest') return Number(find(await admin.fetchTopicOffsets(topic)).high)
    return Number(find(await admin.fetchTopicOffsetsByTimestamp(topic, at)).offset)
  },
  topics: () => admin.listTopics(),
  async create_topic({ topic, partitions, configs = {}, replicas = 1 }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const made = await admin.createTopics({
      topics: [{ topic, numPartitions: partitions, replicationFactor: replicas, configEntries }],
    })
    // For a topic that exists it answers `false` instead of the error.
    if (!made) throw Object.assign(new Error('TOPIC_ALREADY_EXISTS'), { code: 36 })
  },
  delete_topic: ({ topic }) => admin.deleteTopics({ topics: [topic] }),
  async partitions({ topic }) {
    return (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
  },
  add_partitions: ({ topic, count }) => admin.createPartitions({ topicPartitions: [{ topic, count }] }),
  async configs({ topic }) {
    const found = await admin.describeConfigs({
      includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
    })
    return Object.fromEntries(found.resources[0].configEntries.map(entry => [
      entry.configName, [entry.configValue, entry.isDefault ?? [4, 5].includes(entry.configSource)],
    ]))
  },
  replace_configs: ({ topic, configs }) => admin.alterConfigs({
    resources: [{
      type: ConfigResourceTypes.TOPIC, name: topic,
      configEntries: Object.entries(configs).map(([name, value]) => ({ name, value })),
    }],
  }),
  async delete_records({ topic, partition, before }) {
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
    return requests.times({ topic, partition, at: 'earliest' })
  },
  groups: async () => (await admin.listGroups()).groups.map(group => group.groupId),
  async describe_group({ group }) {
    const { AssignerProtocol: { MemberAssignment } } = require('kafkajs')
    const { groups: [found] } = await admin.describeGroups([group])
    return {
      state: found.state.toLowerCase(),
      members: found.members.map(member => [
        member.clientId,
        Object.entries(MemberAssignment.decode(member.memberAssignment).assignment)
          .flatMap(([topic, numbers]) => numbers.map(number => [topic, number])).sort(),
      ]).sort(),
    }
  },
  delete_group: ({ group }) => admin.deleteGroups([group]),
  async group_offsets({ group, topic }) {
    const found = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    return found.filter(entry => entry.topic === topic)
      .flatMap(entry => entry.partitions.map(at => [at.partition, Number(at.offset)]))
      .filter(([, offset]) => offset >= 0)
      .sort(([left], [right]) => left - right)
  },
  async alter_group_offsets({ group, offsets }) {
    for (const [topic, partition, offset] of offsets) {
      await admin.setOffsets({ groupId: group, topic, partitions: [{ partition, offset: String(offset) }] })
    }
  },
  async cluster() {
    const found = await admin.describeCluster()
    return { id: found.clusterId, nodes: found.brokers.map(({ host, port }) => `${host}:${port}`).sort() }
  },
}

// Kafka's number of an error, wherever kafkajs put it.
const code = error => {
  for (const at of [error, error?.cause, error?.originalError, ...(error?.errors || [])]) {
    if (typeof at?.code === 'number') return at.code
  }
  const inner = error?.groups?.[0] ?? error?.errors?.[0]
  return inner?.errorCode ?? inner?.error?.code ?? null
}

const answer = value => process.stdout.write(`${JSON.stringify(value)}\n`)

async function main() {
  await admin.connect()
  answer({ ok: [...Object.keys(requests), 'gzip', 'snappy', 'lz4', 'zstd', 'idempotent'] })
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    try {
      answer({ ok: (await requests[request.do](request)) ?? null })
    } catch (error) {
      answer({ error: { code: code(error), text: `${error.name}: ${error.message}` } })
    }
  }
  process.exit(0)
}

main().catch(error => { console.error(error); process.exit(1) })

// A client of an export, from docs/export.md alone: `node client.mjs EXPORT < REQUESTS > ANSWERS`, a JSON text a line.

import { readFileSync } from 'node:fs'
import { blake2b } from '@noble/hashes/blake2.js'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import ort from 'onnxruntime-node'

const GAMMA = 0x9e3779b97f4a7c15n
const ROUNDS = [[30n, 0xbf58476d1ce4e5b9n], [27n, 0x94d049bb133111ebn], [31n, 1n]]
const uint64 = (x) => BigInt.asUintN(64, x)
const isInt64 = (x) => BigInt.asIntN(64, x) === x

class Refused extends Error {}

// A raw value as text, or as an integer (a BigInt); null where it is unknown.
function asId(value, isText) {
  if (value == null || value === '' || Number.isNaN(value)) return null
  if (typeof value === 'boolean') value = Number(value)
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new Refused(`no id: ${value}`)
    value = BigInt(value)
  }
  if (typeof value === 'bigint') value = String(value)
  if (typeof value !== 'string') throw new Refused(`no id: ${value}`)
  if (!value.isWellFormed()) throw new Refused('half of a surrogate pair')
  if (isText) return value
  if (!/^[+-]?[0-9]+$/.test(value)) return null
  const number = BigInt(value.replace(/^\+/, ''))
  return isInt64(number) ? number : null
}

function hashed(id) {
  if (typeof id === 'string') {
    const digest = blake2b(new TextEncoder().encode(id), { dkLen: 8 })
    return new DataView(digest.buffer, digest.byteOffset).getBigUint64(0)
  }
  return ROUNDS.reduce((z, [shift, factor]) => uint64((z ^ (z >> shift)) * factor), uint64(id + GAMMA))
}

function rowOf(feature, value, vocabularies) {
  if ('hash_bucket_size' in feature) {
    const id = asId(value, feature.hash === 'blake2b64')
    return id === null || !feature.hash ? 0 : 1 + Number(hashed(id) % BigInt(feature.hash_bucket_size))
  }
  const { isText, rows } = vocabularies[feature.embedding_name ?? feature.name] ?? { isText: true, rows: new Map() }
  return rows.get(asId(value, isText)) ?? 0
}

// A number, or NaN where it is unknown.
function asNumber(value) {
  if (value != null && !['number', 'bigint', 'boolean'].includes(typeof value)) throw new Refused(`no number: ${value}`)
  const x = value == null ? NaN : Number(value)
  return Number.isFinite(x) ? x : NaN
}

function sequenceOf(feature, value, vocabularies) {
  if (typeof value === 'string' && !feature.separator) throw new Refused('text without a separator')
  const values = typeof value === 'string' ? value.split(feature.separator) : value ?? []
  if (!Array.isArray(values)) throw new Refused(`no list: ${value}`)
  const known = values.map((v) => rowOf(feature, v, vocabularies)).filter((row) => row > 0).slice(-feature.max_length)
  return [...known, ...Array(feature.max_length - known.length).fill(0)]
}

function vectorOf(feature, value) {
  const values = value == null || (Array.isArray(value) && value.length === 0) ? Array(feature.dim).fill(null) : value
  if (!Array.isArray(values) || values.length !== feature.dim) throw new Refused(`no ${feature.dim} numbers: ${value}`)
  return values.map((v) => Math.fround(asNumber(v))).map((x) => (Number.isFinite(x) ? x : 0))
}

// Raw values by feature name -> the inputs of a tower for one row.
function encode(features, vocabularies, raw) {
  const inputs = {}, ids = [], floats = []
  for (const level of [undefined, 'event']) {
    for (const feature of features.filter((f) => (f.level === 'event' ? 'event' : undefined) === level)) {
      const value = raw[feature.name]
      if (feature.kind === 'categorical') ids.push(rowOf(feature, value, vocabularies))
      else if (feature.kind === 'sequence') {
        inputs[`sequence_${Object.keys(inputs).length}`] = sequenceOf(feature, value, vocabularies)
      } else if (feature.kind === 'vector') floats.push(...vectorOf(feature, value))
      else {
        let x = asNumber(value)
        if (feature.transform === 'log1p') x = Math.sign(x) * Math.log1p(Math.abs(x))
        if ('boundaries' in feature || 'num_buckets' in feature) {
          const known = 'edges' in feature && !Number.isNaN(x)
          ids.push(known ? 1 + feature.edges.filter((edge) => edge <= x).length : 0)
        } else {
          const z = 'mean' in feature ? (x - feature.mean) / feature.std : NaN
          floats.push(Number.isNaN(z) ? 0 : Math.fround(Math.min(10, Math.max(-10, z))))
        }
      }
    }
  }
  if (ids.length) inputs.ids = ids
  if (floats.length) inputs.floats = floats
  return inputs
}

function tensor(name, row) {
  return name === 'floats'
    ? new ort.Tensor('float32', Float32Array.from(row), [1, row.length])
    : new ort.Tensor('int64', BigInt64Array.from(row, BigInt), [1, row.length])
}

// The key of a tower: onnxruntime-node does not show metadata_props, so it is looked for in the bytes.
function keyOfTower(bytes) {
  const words = Buffer.from('\n\x08dmtl.key\x12@', 'latin1')
  const at = bytes.indexOf(words)
  return at < 0 ? undefined : bytes.toString('latin1', at + words.length, at + words.length + 64)
}

async function opened(root) {
  const folder = `${root}/${readFileSync(`${root}/LATEST`, 'utf8').trim()}`
  const about = JSON.parse(readFileSync(`${folder}/features.json`, 'utf8'))
  if (about.format !== 1) throw new Error(`format ${about.format}`)
  const sameRun = (key, name) => {
    if (key !== about.key) throw new Error(`${name} is of another run than features.json`)
  }
  const table = async (name) => {
    const file = await asyncBufferFromFile(`${folder}/${name}.parquet`)
    const metadata = await parquetMetadataAsync(file)
    sameRun(metadata.key_value_metadata?.find(({ key }) => key === 'dmtl.key')?.value, name)
    return parquetReadObjects({ file, metadata, compressors })
  }
  const tower = (side) => {
    const bytes = readFileSync(`${folder}/${side}_tower.onnx`)
    sameRun(keyOfTower(bytes), `${side}_tower`)
    return ort.InferenceSession.create(bytes)
  }
  const vocabularies = {}
  for (const { embedding, int_value, text_value, row } of await table('vocabularies')) {
    const value = text_value ?? int_value
    if (value == null) continue
    vocabularies[embedding] ??= { isText: typeof value === 'string', rows: new Map() }
    vocabularies[embedding].rows.set(value, row)
  }
  return {
    about,
    vocabularies,
    towers: { user: await tower('user'), item: await tower('item') },
    items: (await table('item_vectors')).map(({ item_id, vector, scale = 1 }) => ({
      item_id,
      vector: Array.from(vector, (x) => Math.fround(x * scale)),
    })),
    users: new Map((await table('users')).map((user) => [String(user.user_id), user])),
  }
}

// The vector of a user as it would be with another kappa.
function withKappa({ blocks, kappa }, vector, wanted) {
  if (!blocks) throw new Refused('kappa without an exposure block')
  const [from, to] = blocks.exposure
  return vector.map((x, n) => (n >= from && n < to ? (x * wanted) / kappa : x))
}

// Sums in double, rounded to single; ties in the order of the rows.
function best({ about, items }, vector, k, seen) {
  const dots = items.map((item) => Math.fround(item.vector.reduce((sum, x, n) => sum + x * vector[n], 0)))
  const unseen = [...items.keys()].filter((row) => !seen.has(items[row].item_id))
  const found = unseen.sort((a, b) => dots[b] - dots[a] || a - b).slice(0, k)
  return found.map((row) => ({ item_id: String(items[row].item_id), score: about.scale * dots[row] + about.bias }))
}

async function answer(opened, { side = 'user', raw, user, kappa, k = 0, exclude_seen = false }) {
  const unseen = user === undefined ? [] : Object.entries(opened.about.unseen ?? {})
  const fresh = Object.fromEntries(unseen.map(([name, value]) => [`feature.${name}`, value]))
  const served = opened.users.get(user) ?? { 'feature.user_id': user, ...fresh }
  const named = Object.entries(served).filter(([name]) => name.startsWith('feature.'))
  raw = { ...Object.fromEntries(named.map(([name, value]) => [name.slice('feature.'.length), value])), ...raw }
  const features = opened.about.features.filter((feature) => feature.side === side)
  const inputs = encode(features, opened.vocabularies, raw)
  const tensors = Object.fromEntries(Object.entries(inputs).map(([name, row]) => [name, tensor(name, row)]))
  let vector = Array.from((await opened.towers[side].run(tensors)).vector.data)
  if (kappa !== undefined && kappa !== (opened.about.kappa ?? 0)) vector = withKappa(opened.about, vector, kappa)
  const seen = new Set(exclude_seen ? served.seen_items ?? [] : [])
  return { ...inputs, vector, items: best(opened, vector, k, seen) }
}

const NOT_IN_JSON = (key, value) => (typeof value?.float === 'string' ? Number(value.float) : value)
const client = await opened(process.argv[2])
for (const line of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  try {
    console.log(JSON.stringify(await answer(client, JSON.parse(line, NOT_IN_JSON))))
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    console.log('{"error": true}')
  }
}

import { expect, test } from 'vitest'
import { parse, rate, total } from './prometheus'

const TEXT = `# HELP a_total Things.
# TYPE a_total counter
a_total{source="api",outcome="success"} 12
a_total{source="ws",outcome="error"} 3
lat_bucket{le="+Inf"} 5
gone NaN
nonsense
up 1 1395066363000
`

test('samples are read, other lines are ignored', () => {
  const samples = parse(TEXT)
  expect(samples.map((s) => [s.name, s.value])).toEqual([['a_total', 12], ['a_total', 3], ['lat_bucket', 5], ['up', 1]])
  expect(total(samples, 'a_total')).toBe(15)
  expect(total(samples, 'a_total', 'outcome="error"')).toBe(3)
})

test('a rate is the increase over time, and null over a restart', () => {
  const at = (seconds: number, value: number) => ({ at: seconds * 1000, samples: [{ name: 'a', labels: '', value }] })
  expect(rate([at(0, 10), at(5, 20), at(10, 3), at(15, 3)], 'a')).toEqual([null, 2, null, 0])
})

/** Reads the Prometheus text of `/metrics`, as far as the charts need it. */

export interface Sample {
  name: string
  labels: string
  value: number
}

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?\s+(\S+)/

/** All samples; other lines are ignored. */
export function parse(text: string): Sample[] {
  const samples: Sample[] = []
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const [, name, labels, number] = LINE.exec(line) ?? []
    const value = Number(number === '+Inf' ? Infinity : number)
    if (name !== undefined && number !== undefined && !Number.isNaN(value)) samples.push({ name, labels: labels ?? '', value })
  }
  return samples
}

/** The sum over all samples whose labels contain `label`. */
export const total = (samples: readonly Sample[], name: string, label = ''): number =>
  samples.filter((s) => s.name === name && s.labels.includes(label)).reduce((sum, s) => sum + s.value, 0)

export interface Point {
  at: number
  samples: Sample[]
}

/** The increase per second between two samples; `null` where the server restarted in between. */
export function rate(points: readonly Point[], name: string, label = ''): (number | null)[] {
  return points.map((point, n) => {
    const before = points[n - 1]
    if (before === undefined || point.at <= before.at) return null
    const grown = total(point.samples, name, label) - total(before.samples, name, label)
    return grown < 0 ? null : (grown * 1000) / (point.at - before.at)
  })
}

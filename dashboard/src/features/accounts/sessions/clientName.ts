const BROWSERS: [RegExp, string][] = [
  [/Edg\//, 'Edge'],
  [/OPR\//, 'Opera'],
  [/Firefox\//, 'Firefox'],
  [/Chrom(e|ium)\//, 'Chrome'],
  [/Safari\//, 'Safari'],
]
const SYSTEMS: [RegExp, string][] = [
  [/Android/, 'Android'],
  [/iPhone|iPad/, 'iOS'],
  [/Windows/, 'Windows'],
  [/Mac OS X/, 'macOS'],
  [/Linux/, 'Linux'],
]

/** A user agent as `browser on system`; programs that are not browsers are shown as they are. */
export function clientName(agent: string | null | undefined): string {
  if (agent == null || agent === '') return 'unknown client'
  const firstMatch = (list: [RegExp, string][]) => list.find(([pattern]) => pattern.test(agent))?.[1]
  const browser = agent.startsWith('Mozilla/') ? firstMatch(BROWSERS) : undefined
  return browser === undefined ? agent : `${browser} on ${firstMatch(SYSTEMS) ?? 'another system'}`
}

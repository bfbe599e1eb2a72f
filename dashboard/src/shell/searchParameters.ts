/** Query strings of the console's addresses: every parameter is text, as people write it. */

/** Reads a query string; every value is text. */
export const parseSearch = (text: string): Record<string, string> => Object.fromEntries(new URLSearchParams(text))

/** Writes a query string from the members that are text. */
export function stringifySearch(search: Record<string, unknown>): string {
  const given = Object.entries(search).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`
}

/** The known parameters of an address. */
export const pickText = <K extends string>(search: Record<string, unknown>, keys: readonly K[]): { [key in K]?: string } =>
  Object.fromEntries(keys.filter((key) => typeof search[key] === 'string').map((key) => [key, search[key]])) as { [key in K]?: string }

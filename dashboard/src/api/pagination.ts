/** What queries for lists have in common. */

export const PAGE_SIZE = 50

/** The parameters without those that are empty. */
export function withoutEmpty<T extends Record<string, unknown>>(query: T): { [K in keyof T]?: Exclude<T[K], '' | null | undefined> } {
  const entries = Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined)
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], '' | null | undefined> }
}

/** A boolean parameter as its filter has it; `undefined` where the filter is off. */
export const booleanParameter = (text: '' | 'true' | 'false'): boolean | undefined => (text === '' ? undefined : text === 'true')

/** How an infinite query follows the cursors of a list. */
export const cursorPages = { initialPageParam: '', getNextPageParam: (last: { next_cursor?: string | null }) => last.next_cursor ?? undefined }

/** The audit actions of every room, in words: each room brings its own (`features/<room>/words.ts`). */
const rooms = import.meta.glob<Record<string, string>>('../features/*/words.ts', { eager: true, import: 'auditWords' })

/** Words by action; an action that is missing here is shown by its name. */
export const AUDIT_WORDS: ReadonlyMap<string, string> = new Map(Object.values(rooms).flatMap((words) => Object.entries(words)))

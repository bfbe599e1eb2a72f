/** Audit actions of this room, in words. */
export const auditWords: Record<string, string> = {
  'audit.exported': 'exported the audit log',
  'audit.checkpoint': 'removed old audit rows after a checkpoint',
}

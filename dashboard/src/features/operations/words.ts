/** Audit actions of this room, in words. */
export const auditWords: Record<string, string> = {
  'plugin.quarantined': 'plugin quarantined',
  'plugin.faulted': 'plugin disabled after repeated faults',
  'plugin.recovered': 'plugin active again',
  'plugin.reset': 'plugin restarted',
  'plugin.device_poisoned': 'device quarantined: its plugin fails on its messages',
  'clock.believed': 'accepted the clock at the start',
  'clock.set_right': 'corrected times that were recorded while the clock was ahead',
}

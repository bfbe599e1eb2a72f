import { Button, Code, Group, SegmentedControl, Stack, Text } from '@mantine/core'
import type { ReactNode } from 'react'
import { ApiError } from '../../api/error'
import { changePreferences, loadPreferences, savePreferences, usePreferences, usePreferencesProblem, usePreferencesSaved } from '../../state/preferences'
import { DEFAULTS, type Density, type Scheme, type Toasts } from '../../state/preferencesModel'
import { Card } from '../../ui/Card'
import { ErrorAlert } from '../../ui/ErrorAlert'
import { PageTitle } from '../../ui/PageTitle'

function Choice<T extends string>({ label, value, choices, set }: { label: string; value: T; choices: [T, string][]; set: (next: T) => void }): ReactNode {
  return (
    <Stack gap={4}>
      <Text size="sm" fw={500}>
        {label}
      </Text>
      <Group>
        <SegmentedControl aria-label={label} value={value} onChange={set} data={choices.map(([v, l]) => ({ value: v, label: l }))} />
      </Group>
    </Stack>
  )
}

/** Appearance and notifications; saved with the account, so that they apply in every browser. */
export function PreferencesPage(): ReactNode {
  const all = usePreferences()
  const problem = usePreferencesProblem()
  const saved = usePreferencesSaved()
  const settings = all.dashboard_settings
  const reset = () => {
    changePreferences('dashboard_settings', DEFAULTS.dashboard_settings)
    changePreferences('dashboard_layout', DEFAULTS.dashboard_layout)
    changePreferences('notification_settings', DEFAULTS.notification_settings)
    changePreferences('device_view_state', DEFAULTS.device_view_state)
  }
  return (
    <>
      <PageTitle title="Preferences">
        <Text size="sm" c="dimmed" role="status">
          {problem !== null ? 'not saved' : saved ? 'saved with your account' : 'saving'}
        </Text>
      </PageTitle>
      <Stack>
        {problem !== null && (
          <ErrorAlert thrown={new ApiError(problem.code, problem.message)} title="The preferences could not be saved; the console keeps trying" retry={() => void loadPreferences().then(savePreferences)} />
        )}
        <Card id="preferences.looks" title="Appearance">
          <Stack>
            <Choice<Scheme> label="Colours" value={settings.scheme} choices={[['auto', 'System'], ['light', 'Light'], ['dark', 'Dark']]} set={(scheme) => changePreferences('dashboard_settings', { scheme })} />
            <Choice<Density> label="List density" value={settings.density} choices={[['comfortable', 'Comfortable'], ['compact', 'Compact']]} set={(density) => changePreferences('dashboard_settings', { density })} />
          </Stack>
        </Card>
        <Card id="preferences.notices" title="Notifications">
          <Choice<Toasts>
            label="Notifications in the corner"
            value={all.notification_settings.toasts}
            choices={[['all', 'All'], ['failures', 'Failures'], ['none', 'None']]}
            set={(toasts) => changePreferences('notification_settings', { toasts })}
          />
        </Card>
        <Card id="preferences.kept" title="Saved data">
          <Stack gap="xs">
            <Text size="sm">Saved with your account: collapsed cards, the order of cards, filters of the device list and the settings above.</Text>
            <Code block mah={300} style={{ overflow: 'auto' }} tabIndex={0} role="region" aria-label="Saved preferences">
              {JSON.stringify(all, null, 2)}
            </Code>
            <Group>
              <Button size="xs" variant="default" onClick={reset}>
                Reset to defaults
              </Button>
            </Group>
          </Stack>
        </Card>
      </Stack>
    </>
  )
}

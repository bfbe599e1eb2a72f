import { Button, Code, Group, SegmentedControl, Stack, Text } from '@mantine/core'
import type { ReactNode } from 'react'
import { change, DEFAULTS, type Density, load, save, type Scheme, type Toasts, usePreferences, usePreferencesProblem, usePreferencesSaved } from '../../state/preferences'
import { Card } from '../../ui/Card'
import { Problem } from '../../ui/ErrorAlert'
import { ApiError } from '../../api/error'
import { PageTitle } from '../../ui/bits'

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

/** How the console looks and what it says; kept with the account, so that every browser has it. */
export function PreferencesPage(): ReactNode {
  const all = usePreferences()
  const problem = usePreferencesProblem()
  const saved = usePreferencesSaved()
  const settings = all.dashboard_settings
  const reset = () => {
    change('dashboard_settings', DEFAULTS.dashboard_settings)
    change('dashboard_layout', DEFAULTS.dashboard_layout)
    change('notification_settings', DEFAULTS.notification_settings)
    change('device_view_state', DEFAULTS.device_view_state)
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
          <Problem thrown={new ApiError(problem.code, problem.message)} title="The preferences are not with your account yet; it is tried again" retry={() => void load().then(save)} />
        )}
        <Card id="preferences.looks" title="Looks">
          <Stack>
            <Choice<Scheme> label="Colours" value={settings.scheme} choices={[['auto', 'As the system'], ['light', 'Light'], ['dark', 'Dark']]} set={(scheme) => change('dashboard_settings', { scheme })} />
            <Choice<Density> label="Lists" value={settings.density} choices={[['comfortable', 'Comfortable'], ['compact', 'Compact']]} set={(density) => change('dashboard_settings', { density })} />
          </Stack>
        </Card>
        <Card id="preferences.notices" title="Notices">
          <Choice<Toasts>
            label="Short notices in the corner"
            value={all.notification_settings.toasts}
            choices={[['all', 'All'], ['failures', 'Failures'], ['none', 'None']]}
            set={(toasts) => change('notification_settings', { toasts })}
          />
        </Card>
        <Card id="preferences.kept" title="What is kept">
          <Stack gap="xs">
            <Text size="sm">Folded cards, the order of cards, filters of the device list and the choices above.</Text>
            <Code block mah={300} style={{ overflow: 'auto' }} tabIndex={0} role="region" aria-label="Preferences as kept">
              {JSON.stringify(all, null, 2)}
            </Code>
            <Group>
              <Button size="xs" variant="default" onClick={reset}>
                Back to the defaults
              </Button>
            </Group>
          </Stack>
        </Card>
      </Stack>
    </>
  )
}

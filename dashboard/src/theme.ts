import { createTheme, type CSSVariablesResolver, type MantineColorsTuple } from '@mantine/core'

/** A teal with a contrast of 4.5:1 on white and on the dark background (WCAG 2.2, 1.4.3). */
const hexa: MantineColorsTuple = [
  '#e3fafc', '#c5f0f5', '#99dfe8', '#66c7d4', '#3bafc0', '#1f97aa', '#0c8599', '#0b7285', '#095c6b', '#064450',
]

export const theme = createTheme({
  primaryColor: 'hexa',
  primaryShade: { light: 7, dark: 8 },
  colors: { hexa },
  fontFamily: '"Inter Variable", system-ui, sans-serif',
  fontFamilyMonospace: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
  defaultRadius: 'md',
  cursorType: 'pointer',
  respectReducedMotion: true,
})

/** Replaces colours of Mantine whose contrast is below 4.5:1 (WCAG 2.2, 1.4.3). */
export const colours: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-dimmed': '#5c636a',
    '--mantine-color-placeholder': '#666d75',
    '--mantine-color-anchor': '#0b7285',
    '--mantine-color-error': '#c92a2a',
    '--mantine-color-red-outline': '#c92a2a',
    '--mantine-color-red-light-color': '#a51111',
  },
  dark: {
    '--mantine-color-dimmed': '#a6a7ab',
    '--mantine-color-placeholder': '#a6a7ab',
    '--mantine-color-anchor': '#66c7d4',
    '--mantine-color-error': '#ff8787',
    '--mantine-color-red-outline': '#ff8787',
    '--mantine-color-hexa-light': 'rgba(59, 175, 192, 0.16)',
    '--mantine-color-hexa-light-hover': 'rgba(59, 175, 192, 0.22)',
    '--mantine-color-hexa-light-color': '#99dfe8',
  },
})

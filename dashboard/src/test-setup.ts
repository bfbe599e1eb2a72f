import { afterEach } from 'vitest'
import { cleanup } from '@testing-library/react'

afterEach(cleanup)

// Mantine needs `matchMedia`, which jsdom does not have.
const media = { matches: false, onchange: null, addEventListener() {}, removeEventListener() {}, dispatchEvent: () => false }
Object.assign(window, { matchMedia: (query: string) => ({ ...media, media: query }) })

import Testing

@testable import Pager

@Suite struct FaultWindowTests {
  @Test("a single fault places the small aligned window around it", arguments: [0, 1, 31, 32, 100, 4_095])
  func lone(_ page: Int) {
    var window = FaultWindow()
    #expect(window.pages(around: page, within: 0..<4_096, isHurried: false) == (page / 4 * 4)..<(page / 4 * 4 + 4))
  }

  @Test("a window stays in its region and contains its page", arguments: [false, true])
  func clamped(_ isHurried: Bool) {
    var window = FaultWindow()
    for limits in [5..<6, 5..<40, 33..<64, 0..<1_000] {
      for page in limits {
        let pages = window.pages(around: page, within: limits, isHurried: isHurried)
        #expect(pages.contains(page) && limits.contains(pages.lowerBound) && pages.upperBound <= limits.upperBound)
      }
    }
  }

  @Test(
    "a guest that only waits for pages gets larger aligned windows, and smaller ones when it computes again"
  )
  func hurried() {
    var window = FaultWindow()
    let places = [9_001, 5_555, 77, 40_003, 1_234, 60_000]
    #expect(
      places.map { window.pages(around: $0, within: 0..<100_000, isHurried: true).count } == [8, 16, 32, 32, 32, 32])
    #expect(window.pages(around: 1_000, within: 0..<100_000, isHurried: true) == 992..<1_024)
    #expect(
      places.map { window.pages(around: $0, within: 0..<100_000, isHurried: false).count } == [16, 8, 4, 4, 4, 4])
  }

  @Test(
    "sequential reading enlarges windows up to a bound; a jump, or a single border crossing, does not"
  )
  func sequential() {
    var window = FaultWindow()
    var page = 0
    var sizes: [Int] = []
    for _ in 0..<9 {
      let pages = window.pages(around: page, within: 0..<100_000, isHurried: false)
      sizes.append(pages.count)
      page = pages.upperBound
    }
    #expect(sizes == [4, 4, 8, 16, 32, 64, 128, 128, 128])
    #expect(window.pages(around: 50_000, within: 0..<100_000, isHurried: false).count == 4)
  }

  @Test("while recording every window is small")
  func recording() {
    var window = FaultWindow.recording
    #expect(window.pages(around: 6, within: 0..<100, isHurried: true) == 4..<8)
    #expect(window.pages(around: 8, within: 0..<100, isHurried: true) == 8..<12)
    #expect(window.pages(around: 12, within: 0..<100, isHurried: true) == 12..<16)
  }
}

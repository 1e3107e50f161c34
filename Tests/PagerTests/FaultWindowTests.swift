import Testing

@testable import Pager

@Suite struct FaultWindowTests {
  @Test("a lone fault brings in the aligned window around it", arguments: [0, 1, 31, 32, 100, 4_095])
  func lone(_ page: Int) {
    var window = FaultWindow()
    let pages = window.pages(around: page, within: 0..<4_096)
    #expect(pages == (page / 32 * 32)..<(page / 32 * 32 + 32))
  }

  @Test("a window never leaves its region, and always has its page")
  func clamped() {
    var window = FaultWindow()
    for limits in [5..<6, 5..<40, 33..<64, 0..<1_000] {
      for page in limits {
        let pages = window.pages(around: page, within: limits)
        #expect(pages.contains(page) && limits.contains(pages.lowerBound) && pages.upperBound <= limits.upperBound)
      }
    }
  }

  @Test("reading on and on makes windows larger, up to a bound; a jump makes them small again, and one crossed border is no such reading")
  func sequential() {
    var window = FaultWindow()
    var page = 0
    var sizes: [Int] = []
    for _ in 0..<6 {
      let pages = window.pages(around: page, within: 0..<100_000)
      sizes.append(pages.count)
      page = pages.upperBound
    }
    #expect(sizes == [32, 32, 64, 128, 128, 128])
    #expect(window.pages(around: 50_000, within: 0..<100_000).count == 32)
  }

  @Test("while recording every window is small")
  func recording() {
    var window = FaultWindow(smallest: FaultWindow.recordingPages, largest: FaultWindow.recordingPages)
    #expect(window.pages(around: 6, within: 0..<100) == 4..<8)
    #expect(window.pages(around: 8, within: 0..<100) == 8..<12)
  }
}

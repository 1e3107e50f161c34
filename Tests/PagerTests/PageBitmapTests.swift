import Foundation
import LinuxSystem
import SystemPackage
import Testing

@testable import Pager

@Suite struct PageBitmapTests {
  @Test("agrees with a set under random changes", arguments: [1, 63, 64, 65, 1_000])
  func model(_ pages: Int) {
    let bitmap = PageBitmap(pageCount: pages)
    var model: Set<Int> = []
    var state: UInt64 = 42
    func next(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % limit
    }
    for _ in 0..<300 {
      let start = next(pages)
      let range = start..<min(pages, start + next(130) + 1)
      if next(2) == 0 {
        bitmap.insert(range)
        model.formUnion(range)
      } else {
        bitmap.remove(range)
        model.subtract(range)
      }
    }
    #expect(Set((0..<pages).filter(bitmap.contains)) == model)
    #expect(bitmap.count == model.count)
    for page in 0..<pages {
      let limit = page + 1 + next(pages - page)
      let end = (page..<limit).first { model.contains($0) != model.contains(page) } ?? limit
      #expect(bitmap.endOfRun(from: page, limit: limit) == end)
    }
  }

  @Test("removed pages outlive the process that recorded them; a file of another size is refused")
  func removedPages() throws {
    let directory = FilePath(FileManager.default.temporaryDirectory.path).appending(
      "martlet-removed-\(UUID().uuidString)")
    try Directories.create(directory)
    defer { try? Directories.removeTree(directory) }
    try RemovedPages(in: directory, pageCount: 100).bitmap.insert(5..<70)
    #expect(try RemovedPages(in: directory, pageCount: 100).bitmap.count == 65)
    #expect(throws: SystemError.self) { try RemovedPages(in: directory, pageCount: 200) }
    // The same size in bytes, but another number of pages.
    #expect(throws: SystemError.self) { try RemovedPages(in: directory, pageCount: 101) }
    try Data(repeating: 9, count: 32).write(to: URL(filePath: directory.appending(RemovedPages.fileName).string))
    #expect(throws: SystemError.self) { try RemovedPages(in: directory, pageCount: 100) }
  }
}

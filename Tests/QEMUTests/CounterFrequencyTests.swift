import Foundation
import LinuxSystem
import SystemPackage
import Testing

@testable import QEMU

@Suite struct CounterFrequencyTests {
  @Test("the first measurement is kept until the counter differs")
  func settles() throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let file = FilePath(directory.path).appending("counter")
    #expect(CounterFrequency.settle(2_594_999, in: file) == 2_594_999)
    #expect(CounterFrequency.settle(2_595_001, in: file) == 2_594_999)
    #expect(CounterFrequency.settle(2_100_000, in: file) == 2_100_000)
    #expect(CounterFrequency.settle(2_100_050, in: file) == 2_100_000)
    try SmallFile.replace(file, with: Array("nonsense".utf8), mode: 0o600)
    #expect(CounterFrequency.settle(2_100_050, in: file) == 2_100_050)
  }

  @Test("if the rate cannot be stored, the measurement is used")
  func withoutMemory() {
    #expect(CounterFrequency.settle(2_100_050, in: "/proc/missing/counter") == 2_100_050)
  }
}

import Foundation
import Model
import Snapshots
import SystemPackage

/// The expected content of a guest's memory: every page is zero, or filled from a seed as `pager-machine` fills it.
struct GuestModel: Equatable {
  static let pageWords = 512

  /// Nil for a page of zeros.
  private(set) var seeds: [UInt64?]

  init(pages: Int) {
    seeds = [UInt64?](repeating: nil, count: pages)
  }

  var memoryBytes: Int64 { Int64(seeds.count) * Int64(MemoryGeometry.pageBytes) }

  mutating func write(_ pages: Range<Int>, seed: UInt64) {
    for page in pages { seeds[page] = seed }
  }

  mutating func zero(_ pages: Range<Int>) {
    for page in pages { seeds[page] = nil }
  }

  func words(of page: Int) -> [UInt64] {
    guard let seed = seeds[page] else { return [UInt64](repeating: 0, count: Self.pageWords) }
    let mask = seed &* 0xD6E8_FEB8_6659_FD93
    return (0..<Self.pageWords).map { (UInt64(page * Self.pageWords + $0) &+ 1) &* 0x9E37_79B9_7F4A_7C15 ^ mask }
  }

  /// The checksum that `pager-machine` computes.
  func sum(_ pages: Range<Int>) -> String {
    var result: UInt64 = 0
    for page in pages {
      words(of: page).withUnsafeBufferPointer { words in
        for word in words { result = result &* 1_099_511_628_211 &+ word &+ 1 }
      }
    }
    return "\(result)"
  }

  /// Passes every non-zero page to `writer`.
  func write(to writer: MemoryLayerWriter) throws {
    for page in seeds.indices where seeds[page] != nil {
      try words(of: page).withUnsafeBytes { try writer.append($0, at: page) }
    }
  }

  /// A memory with all kinds of pages in random order.
  static func mixed(pages: Int, seed: UInt64) -> GuestModel {
    var model = GuestModel(pages: pages)
    var state = seed
    for page in 0..<pages {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      if state >> 60 != 0 { model.seeds[page] = state >> 33 }
    }
    // Includes long runs.
    model.zero((pages / 4)..<(pages / 4 + min(300, pages / 8)))
    model.write((pages / 2)..<(pages / 2 + min(300, pages / 8)), seed: 7)
    return model
  }
}

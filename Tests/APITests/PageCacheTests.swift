import Concurrency
import Model
import NIOCore
import Persistence
import Testing

@testable import API

@Suite("Pages kept")
struct PageCacheTests {
  private struct Failure: Error {}

  private let cache = PageCache()
  private let made = Made()
  private let team = TeamID()

  private final class Made: Sendable {
    private let state = Mutex(0)
    var count: Int { state.withLock { $0 } }
    func note() { state.withLock { $0 += 1 } }
  }

  private func page(_ query: String, _ version: Int?, _ content: String = "[]") async throws -> String {
    let key = PageCache.Key(team: team, query: query)
    let page = try await cache.page(key, version: version.map { DatabaseVersion($0) }) {
      made.note()
      return PageCache.Page(body: ByteBuffer(string: content), cursor: nil)
    }
    return String(buffer: page.body)
  }

  @Test("a page is made once for a version, and anew for another")
  func versions() async throws {
    #expect(try await page("a", 1, "one") == "one")
    #expect(try await page("a", 1, "two") == "one")
    #expect(try await page("b", 1, "other") == "other")
    #expect(try await page("a", 2, "three") == "three")
    // Who would be content with an older one gets the newer.
    #expect(try await page("a", 1, "four") == "three")
    #expect(made.count == 3)
  }

  @Test("where no version is known nothing is kept")
  func unknown() async throws {
    #expect(try await page("a", nil, "one") == "one")
    #expect(try await page("a", nil, "two") == "two")
  }

  @Test("a page of an old version that comes late is not kept for a new one")
  func superseded() async throws {
    let key = PageCache.Key(team: team, query: "a")
    let late = try await cache.page(key, version: DatabaseVersion(1)) {
      _ = try await page("b", 2)
      return PageCache.Page(body: ByteBuffer(string: "late"), cursor: nil)
    }
    #expect(String(buffer: late.body) == "late")
    #expect(try await page("a", 2, "new") == "new")
  }

  @Test("who asks for a page that is being made waits for it")
  func together() async throws {
    let (gate, open) = AsyncStream<Void>.makeStream()
    let begun = AsyncStream<Void>.makeStream()
    let key = PageCache.Key(team: team, query: "a")
    async let first = cache.page(key, version: DatabaseVersion(1)) {
      made.note()
      begun.continuation.yield()
      for await _ in gate { break }
      return PageCache.Page(body: ByteBuffer(string: "first"), cursor: "next")
    }
    for await _ in begun.stream { break }
    let contents = try await withThrowingTaskGroup(of: String.self) { group in
      for _ in 0..<50 { group.addTask { try await page("a", 1, "own") } }
      // Others do not wait.
      #expect(try await page("b", 1, "other") == "other")
      open.yield()
      return try await group.reduce(into: []) { $0.append($1) }
    }
    let cursor = try await first.cursor
    #expect(cursor == "next")
    #expect(Set(contents) == ["first"])
    #expect(made.count == 2)
  }

  @Test("when a page cannot be made, each who waited for it tries by itself")
  func failure() async throws {
    let (gate, open) = AsyncStream<Void>.makeStream()
    let begun = AsyncStream<Void>.makeStream()
    let key = PageCache.Key(team: team, query: "a")
    async let first = cache.page(key, version: DatabaseVersion(1)) {
      begun.continuation.yield()
      for await _ in gate { break }
      throw Failure()
    }
    for await _ in begun.stream { break }
    let contents = try await withThrowingTaskGroup(of: String.self) { group in
      for number in 0..<5 { group.addTask { try await page("a", 1, "\(number)") } }
      open.yield()
      return try await group.reduce(into: Set()) { $0.insert($1) }
    }
    var isFailed = false
    do {
      _ = try await first
    } catch is Failure {
      isFailed = true
    }
    #expect(isFailed)
    #expect(contents.isSubset(of: ["0", "1", "2", "3", "4"]))
    #expect(made.count >= 1)
    #expect(try await page("b", 1, "after") == "after")
  }

  @Test("neither many pages nor long ones fill the memory")
  func bounded() async throws {
    let long = String(repeating: "x", count: PageCache.maximumPageBytes + 1)
    #expect(try await page("long", 1, long) == long)
    #expect(try await page("long", 1, "again") == "again")
    let query = String(repeating: "q", count: PageCache.maximumQueryBytes + 1)
    #expect(try await page(query, 1, "one") == "one")
    #expect(try await page(query, 1, "two") == "two")
    for number in 0...PageCache.maximumPages { #expect(try await page("\(number)", 1, "first") == "first") }
    var kept = 0
    for number in 0...PageCache.maximumPages where try await page("\(number)", 1, "second") == "first" { kept += 1 }
    #expect(kept <= PageCache.maximumPages)
  }
}

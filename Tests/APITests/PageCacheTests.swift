import Concurrency
import Model
import NIOCore
import Persistence
import Testing

@testable import API

@Suite("Page cache")
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

  @Test("a page is loaded once per database version")
  func versions() async throws {
    #expect(try await page("a", 1, "one") == "one")
    #expect(try await page("a", 1, "two") == "one")
    #expect(try await page("b", 1, "other") == "other")
    #expect(try await page("a", 2, "three") == "three")
    // A request that would accept an older version gets the newer page.
    #expect(try await page("a", 1, "four") == "three")
    #expect(made.count == 3)
  }

  @Test("without a version nothing is cached")
  func unknown() async throws {
    #expect(try await page("a", nil, "one") == "one")
    #expect(try await page("a", nil, "two") == "two")
  }

  @Test("a late page of an old version is not cached for a newer one")
  func superseded() async throws {
    let key = PageCache.Key(team: team, query: "a")
    let late = try await cache.page(key, version: DatabaseVersion(1)) {
      _ = try await page("b", 2)
      return PageCache.Page(body: ByteBuffer(string: "late"), cursor: nil)
    }
    #expect(String(buffer: late.body) == "late")
    #expect(try await page("a", 2, "new") == "new")
  }

  @Test("concurrent requests for a page wait for the one that loads it")
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
      // Requests for other pages do not wait.
      #expect(try await page("b", 1, "other") == "other")
      open.yield()
      return try await group.reduce(into: []) { $0.append($1) }
    }
    let cursor = try await first.cursor
    #expect(cursor == "next")
    #expect(Set(contents) == ["first"])
    #expect(made.count == 2)
  }

  @Test("if loading a page fails, each waiting request loads it itself")
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

  @Test("the number and the size of cached pages are bounded")
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

import Model
import NIOCore
import Testing

@testable import API

@Suite struct MultipartTests {
  private func parse(_ body: String, chunk: Int) throws -> (fields: [(String, String)], ended: Bool) {
    var parser = MultipartParser(boundary: "XX")
    var fields: [(String, String)] = []
    var ended = false
    var rest = ByteBuffer(string: body)
    while let piece = rest.readSlice(length: min(chunk, rest.readableBytes)), piece.readableBytes > 0 {
      parser.append(piece)
      while let event = try parser.next() {
        switch event {
        case .part(let name): fields.append((name, ""))
        case .content(let bytes): fields[fields.count - 1].1 += String(buffer: bytes)
        case .partEnd: break
        case .end: ended = true
        }
      }
    }
    return (fields, ended)
  }

  @Test("the parts do not depend on how the bytes are divided", arguments: [1, 2, 3, 5, 7, 64, 4_096])
  func chunks(chunk: Int) throws {
    let body = """
      preamble\r\n--XX\r\nContent-Disposition: form-data; name="path"\r\n\r\n/tmp/a\r\n--XX\r\n\
      Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: text/plain\r\n\r\n\
      line\r\n--X\r\r\n-\r\n--XX--\r\nafter
      """
    let (fields, ended) = try parse(body, chunk: chunk)
    #expect(fields.map(\.0) == ["path", "file"])
    #expect(fields.map(\.1) == ["/tmp/a", "line\r\n--X\r\r\n-"])
    #expect(ended)
  }

  @Test("an empty file is a part with no content", arguments: [1, 1_000])
  func empty(chunk: Int) throws {
    let (fields, ended) = try parse("--XX\r\nContent-Disposition: form-data; name=file\r\n\r\n\r\n--XX--", chunk: chunk)
    #expect(fields.map(\.0) == ["file"])
    #expect(fields.map(\.1) == [""])
    #expect(ended)
  }

  @Test("a truncated body has no end event")
  func truncated() throws {
    let whole = "--XX\r\nContent-Disposition: form-data; name=file\r\n\r\ncontent\r\n--XX--"
    for length in 0..<(whole.utf8.count) {
      #expect(try parse(String(decoding: whole.utf8.prefix(length), as: UTF8.self), chunk: 7).ended == false)
    }
  }

  @Test(
    "malformed bodies are refused",
    arguments: [
      "--XX\r\nContent-Type: x\r\n\r\ny\r\n--XX--", "--XXjunk", String(repeating: "x", count: 2_000),
      "--XX\r\n" + String(repeating: "a", count: 10_000),
    ])
  func malformed(body: String) {
    #expect(throws: MartletError.self) { try parse(body, chunk: 100) }
  }

  @Test("the boundary parameter is found in any spelling")
  func boundary() throws {
    #expect(try MultipartParser.boundary(contentType: "multipart/form-data; boundary=abc") == "abc")
    #expect(try MultipartParser.boundary(contentType: "Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"") == "a b")
  }

  @Test(
    "a Content-Type without a valid boundary is refused",
    arguments: [
      nil, "", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
      "multipart/mixed; boundary=x",
    ])
  func noBoundary(type: String?) {
    #expect(throws: MartletError.self) { try MultipartParser.boundary(contentType: type) }
  }
}

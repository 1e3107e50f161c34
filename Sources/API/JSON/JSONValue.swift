/// A JSON document in memory.
///
/// Objects keep the order of their fields. They are arrays of pairs, not dictionaries, because requests are small and
/// responses are written once.
enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int64)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([Pair])

  struct Pair: Sendable, Equatable {
    var name: String
    var value: JSONValue

    init(_ name: String, _ value: JSONValue) {
      self.name = name
      self.value = value
    }
  }

  /// Name of the JSON type in error messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .integer, .number: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByDictionaryLiteral
{
  init(stringLiteral value: String) { self = .string(value) }
  init(integerLiteral value: Int64) { self = .integer(value) }
  init(booleanLiteral value: Bool) { self = .bool(value) }
  init(dictionaryLiteral elements: (String, JSONValue)...) { self = .object(elements.map { Pair($0.0, $0.1) }) }

  static func integer(_ value: Int) -> JSONValue { .integer(Int64(value)) }
  static func optional(_ text: String?) -> JSONValue { text.map(JSONValue.string) ?? .null }

  static func map(_ map: [String: String]) -> JSONValue {
    .object(map.sorted { $0.key < $1.key }.map { Pair($0.key, .string($0.value)) })
  }

  static func strings(_ list: [String]) -> JSONValue { .array(list.map(JSONValue.string)) }

  /// Appends a member to an object; returns the object unchanged if `value` is nil.
  func adding(_ name: String, _ value: JSONValue?) -> JSONValue {
    guard case .object(let pairs) = self, let value else { return self }
    return .object(pairs + [Pair(name, value)])
  }
}

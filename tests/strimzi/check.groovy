// Reads JSON documents, one a manifest with `---` between them, and writes a line about whatever Strimzi's classes
// don't know or can't read. They keep what they don't know aside (`getAdditionalProperties`) instead of refusing it.
import com.fasterxml.jackson.databind.JsonMappingException
import com.fasterxml.jackson.databind.ObjectMapper
import io.strimzi.api.kafka.model.kafka.Kafka
import io.strimzi.api.kafka.model.nodepool.KafkaNodePool
import io.strimzi.api.kafka.model.topic.KafkaTopic
import io.strimzi.api.kafka.model.user.KafkaUser

def kinds = [Kafka: Kafka, KafkaNodePool: KafkaNodePool, KafkaTopic: KafkaTopic, KafkaUser: KafkaUser]

def walk
walk = { found, path ->
    if (found instanceof Map) {
        found.each { key, value -> walk(value, "${path}.${key}") }
    } else if (found instanceof Collection) {
        found.eachWithIndex { value, index -> walk(value, "${path}[${index}]") }
    } else if (found != null && !(found instanceof Enum) && found.class.name ==~ /io\.(strimzi|fabric8)\..*/) {
        found.class.methods.findAll { it.parameterCount == 0 && it.name ==~ /get[A-Z].*/ && it.name != 'getClass' }.each {
            def value
            try {
                value = it.invoke(found)
            } catch (java.lang.reflect.InvocationTargetException ignored) {
                return // made from others, which are not there
            }
            if (it.name == 'getAdditionalProperties') {
                value.each { key, _ -> println "${path}.${key} is unknown" }
            } else {
                walk(value, "${path}.${it.name[3].toLowerCase()}${it.name.substring(4)}")
            }
        }
    }
}

def mapper = new ObjectMapper()
System.in.text.split(/(?m)^---$/).each { text ->
    def tree = mapper.readTree(text)
    def name = "${tree.kind.asText()}/${tree.metadata.name.asText()}"
    def kind = kinds[tree.kind.asText()]
    if (kind == null) {
        println "${name} is of no kind that Strimzi is used for here"
        return
    }
    try {
        walk(mapper.treeToValue(tree, kind), name)
    } catch (JsonMappingException error) {
        println "${name} can't be read: ${error.originalMessage}"
    }
}

package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
)

// The forms in which events are published.
const (
	mediaJSON            = "application/json"
	mediaCloudEvent      = "application/cloudevents+json"
	mediaCloudEventBatch = "application/cloudevents-batch+json"
)

type (
	publishInput struct {
		RawBody []byte `contentType:"application/json"`
		header  http.Header
	}
	publishOutput struct{ Body receipts }

	receipts struct {
		Items []receipt `json:"items" doc:"One per event, in their order."`
	}
	receipt struct {
		ID        string `json:"id" doc:"The publisher's, or the one that was made."`
		Source    string `json:"source"`
		WebhookID string `json:"webhook_id" doc:"What receivers see as webhook-id."`
		Sequence  string `json:"sequence" pattern:"^[0-9]{20}$" doc:"Its offset in the log."`
		Duplicate bool   `json:"duplicate" doc:"It was published before, within 7 days, and stands there since then."`
	}
)

// Resolve keeps the headers: in binary mode they hold the attributes.
func (in *publishInput) Resolve(ctx huma.Context) []error {
	in.header = http.Header{}
	ctx.EachHeader(func(name, value string) { in.header.Add(name, value) })
	return nil
}

func (a *API) registerPublish() {
	handle(a, huma.Operation{
		OperationID: "publish-events", Method: http.MethodPost, Path: "/v1/events", Tags: []string{"events"},
		Summary: "Publish events: one, or several that are taken all or none",
		Description: "Answered when they are durable. An event that was published before, with the same source and id within " +
			"7 days, is not taken again: to publish again after an error is safe where the id is the publisher's own. " +
			"Content-Type says the form: application/json one event or an array of them; application/cloudevents+json and " +
			"application/cloudevents-batch+json CloudEvents 1.0; application/json with ce- headers a CloudEvent in binary mode. " +
			"Of CloudEvents, data must be JSON; partitionkey is the key; sequence gives way to the place in this log; " +
			"all other extension attributes go along.",
		DefaultStatus: http.StatusAccepted,
		RequestBody:   a.publishBody(),
	}, ScopePublish, a.publish)
}

func (a *API) publish(ctx context.Context, in *publishInput) (*publishOutput, error) {
	events, err := readPublished(in.header, in.RawBody)
	if err != nil {
		return nil, err
	}
	if claim := claimOf(ctx); claim != nil {
		for i := range events {
			if events[i].ID == "" {
				events[i].ID = derivedID(claim, i)
			}
		}
	}
	ctx, end := a.tracePublished(ctx, in.header, events)
	done, err := a.store.Publish(ctx, events)
	end(err)
	if err != nil {
		return nil, err
	}
	out := &publishOutput{Body: receipts{Items: make([]receipt, len(done))}}
	for i, r := range done {
		source := events[i].Given.Source
		if source == "" {
			source = store.PublishedSource
		}
		id := store.PublishedID(source, r.ID)
		out.Body.Items[i] = receipt{
			ID: r.ID, Source: source, WebhookID: "e-" + hex.EncodeToString(id[:]), Sequence: r.Offset.String(), Duplicate: r.Duplicate,
		}
	}
	return out, nil
}

// publishedEvent and cloudEvent are the forms of an event, as the document
// describes them; the judge of a body is readPublished.
type publishedEvent struct {
	Type        string          `json:"type" example:"user.signed_up" doc:"Segments with dots between them; in them, letters, digits, _ - $ and what is not ASCII stand for themselves, and all else is percent-encoded. None that begins with rowcall."`
	ID          string          `json:"id" doc:"By it, with source, duplicates are known; made where there is none."`
	Source      string          `json:"source" default:"/sources/http" doc:"A URI reference; none other below /sources/, which are rowcall's own."`
	Key         string          `json:"key" doc:"Events of one type and key are delivered in order; none: no order."`
	Subject     string          `json:"subject"`
	Time        string          `json:"time" format:"date-time" doc:"When it happened; when it was taken, where there is none."`
	Data        json.RawMessage `json:"data" doc:"Any JSON; delivered byte for byte."`
	TraceParent string          `json:"traceparent" doc:"W3C trace context; goes along as an extension attribute."`
	TraceState  string          `json:"tracestate"`
}

type cloudEvent struct {
	SpecVersion     string          `json:"specversion" enum:"1.0"`
	ID              string          `json:"id"`
	Source          string          `json:"source" doc:"A URI reference; below /sources/ none but /sources/http."`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            string          `json:"time" format:"date-time"`
	DataContentType string          `json:"datacontenttype" default:"application/json" doc:"Nothing but JSON."`
	PartitionKey    string          `json:"partitionkey" doc:"Events of one are delivered in order; none: no order."`
	Data            json.RawMessage `json:"data"`
	DataBase64      string          `json:"data_base64" doc:"In place of data: JSON, in base64."`
}

// publishBody describes the forms of a body.
func (a *API) publishBody() *huma.RequestBody {
	one := a.body(typeOf[publishedEvent](), "", map[string][]string{"PublishedEvent": {"type"}}, mediaJSON).Content[mediaJSON].Schema
	ce := a.body(typeOf[cloudEvent](), "", map[string][]string{"CloudEvent": {"specversion", "id", "source", "type"}}, mediaCloudEvent).Content[mediaCloudEvent].Schema
	schemas := a.huma.OpenAPI().Components.Schemas.Map()
	schemas["CloudEvent"].AdditionalProperties = true // extension attributes
	many := func(of *huma.Schema) *huma.Schema {
		return &huma.Schema{Type: huma.TypeArray, Items: of, MinItems: new(1), MaxItems: new(maxArray)}
	}
	return &huma.RequestBody{Content: map[string]*huma.MediaType{
		mediaJSON:            {Schema: &huma.Schema{OneOf: []*huma.Schema{one, many(one)}}},
		mediaCloudEvent:      {Schema: ce},
		mediaCloudEventBatch: {Schema: many(ce)},
	}}
}

// isBinary reports whether headers carry a CloudEvent in binary mode.
func isBinary(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(strings.ToLower(name), "ce-") {
			return true
		}
	}
	return false
}

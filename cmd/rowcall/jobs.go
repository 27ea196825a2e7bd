package main

import (
	"cmp"
	"context"
	"strconv"

	"github.com/rowcall/rowcall/api/client"
)

type jobsCmd struct {
	List   listJobsCmd  `cmd:"" help:"List jobs, newest first."`
	Get    getJobCmd    `cmd:"" help:"Show one with its progress."`
	Pause  pauseJobCmd  `cmd:"" help:"Let one wait."`
	Resume resumeJobCmd `cmd:"" help:"Let a paused one go on."`
	Cancel cancelJobCmd `cmd:"" help:"End one; what it has done stays done."`
}

type listJobsCmd struct {
	clientFlags
	listFlags
	Kind  string `placeholder:"KIND" help:"Only this kind: retry, discard or replay."`
	State string `placeholder:"STATE" help:"Only running, paused, done, cancelled or failed ones."`
}

// Help is shown below the summary.
func (listJobsCmd) Help() string {
	return example(`rowcall jobs list --state running`)
}

// Run lists jobs.
func (c *listJobsCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	jobs, err := collect(ctx, c.Limit, func(ctx context.Context, page client.PageQuery) (client.Page[client.Job], error) {
		return api.Jobs(ctx, client.JobQuery{PageQuery: page, Kind: c.Kind, State: c.State})
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p.stdout, jobs)
	}
	called := &subscriptionNames{api: api}
	rows := make([][]string, len(jobs))
	for i, j := range jobs {
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		rows[i] = []string{j.ID, j.Kind, j.State, short(cmp.Or(called.of(ctx, j.Subscription), "all")), number(j.Total), number(j.Done), number(j.Failed), number(j.Skipped), moment(j.CreatedAt)}
	}
	return table(p.stdout, []string{"ID", "KIND", "STATE", "SUBSCRIPTION", "TOTAL", "DONE", "FAILED", "SKIPPED", "CREATED"}, rows)
}

// oneJob names a job.
type oneJob struct {
	clientFlags
	Job string `arg:"" help:"Its id (job_…, or rpl_… of a replay)."`
}

// ask calls with the job's id and shows the answer.
func (o *oneJob) ask(ctx context.Context, p *program, call func(*client.Client, context.Context, string) (client.Job, error)) error {
	api, err := o.connect(p)
	if err != nil {
		return err
	}
	j, err := call(api, ctx, o.Job)
	if err != nil {
		return answeredOf(err, "job", o.Job, "rowcall jobs list")
	}
	if o.Output == "json" {
		return printJSON(p.stdout, j)
	}
	called := &subscriptionNames{api: api}
	state := j.State
	if j.Reason != "" {
		state += " (" + j.Reason + ")"
	}
	return fields(p.stdout, [][2]string{
		{"id", j.ID},
		{"kind", j.Kind},
		{"state", state},
		{"subscription", cmp.Or(called.both(ctx, j.Subscription), "all")},
		{"total", strconv.FormatInt(j.Total, 10)},
		{"done", strconv.FormatInt(j.Done, 10)},
		{"failed", strconv.FormatInt(j.Failed, 10)},
		{"skipped", strconv.FormatInt(j.Skipped, 10)},
		{"created", moment(j.CreatedAt) + " by " + j.CreatedBy},
		{"ended", optionalMoment(j.EndedAt)},
	}...)
}

type getJobCmd struct{ oneJob }

// Help is shown below the summary.
func (getJobCmd) Help() string {
	return example(`rowcall jobs get job_4hcp2k`)
}

// Run shows one.
func (c *getJobCmd) Run(ctx context.Context, p *program) error {
	return c.ask(ctx, p, (*client.Client).Job)
}

type pauseJobCmd struct{ oneJob }

// Help is shown below the summary.
func (pauseJobCmd) Help() string {
	return example(`rowcall jobs pause job_4hcp2k`)
}

// Run pauses one.
func (c *pauseJobCmd) Run(ctx context.Context, p *program) error {
	return c.ask(ctx, p, (*client.Client).PauseJob)
}

type resumeJobCmd struct{ oneJob }

// Help is shown below the summary.
func (resumeJobCmd) Help() string {
	return example(`rowcall jobs resume job_4hcp2k`)
}

// Run resumes one.
func (c *resumeJobCmd) Run(ctx context.Context, p *program) error {
	return c.ask(ctx, p, (*client.Client).ResumeJob)
}

type cancelJobCmd struct{ oneJob }

// Help is shown below the summary.
func (cancelJobCmd) Help() string {
	return example(`rowcall jobs cancel job_4hcp2k`)
}

// Run cancels one.
func (c *cancelJobCmd) Run(ctx context.Context, p *program) error {
	return c.ask(ctx, p, (*client.Client).CancelJob)
}
